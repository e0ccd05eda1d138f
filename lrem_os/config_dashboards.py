"""Settings of OpenSearch Dashboards. Part of ``config.py``."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from lrem_os.config_fields import Section


class DashboardsSettings(Section):
    """OpenSearch Dashboards, and what `lrem-os dashboards` installs there."""

    url: str = Field("http://127.0.0.1:5601", description="Its address, with the base path where it has one.")
    user: str | None = Field(None, description="User name; none: search.user, or search.token.")
    password: SecretStr | None = Field(None, description="Better in LREM_OS__DASHBOARDS__PASSWORD than in a file.")
    tenant: str | None = Field(
        None, pattern=r"^[^\s]{1,100}$", description="Tenant of the security plugin: global, private or a name."
    )
    workspace: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Id of the workspace, where workspaces are on."
    )
    retention: str | None = Field(
        None,
        pattern=r"^[1-9][0-9]{0,4}[dh]$",
        description="How long behaviour records are kept, such as 30d; none: for ever.",
    )
    eval_prefix: str = Field(
        "lrem-os-eval",
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,199}$",
        description="Prefix of the indices that `lrem-os eval publish` writes.",
    )
    timeout_s: float = Field(30.0, gt=0, description="Seconds until a request is given up.")

    @model_validator(mode="after")
    def _check(self) -> DashboardsSettings:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("dashboards.url is no address: write it like https://dashboards.example.org:5601")
        if bool(self.user) != bool(self.password):
            raise ValueError("dashboards.user and dashboards.password go together: set both or neither")
        return self

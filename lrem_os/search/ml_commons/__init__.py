"""The service inside the cluster: ML Commons asks it for vectors, so that `neural` queries work without the gateway."""

"""Trained models that ship: ``model.name: lrem:NAME`` is the folder NAME in here. See ``lrem_os/model/package.py``."""

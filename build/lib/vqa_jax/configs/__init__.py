"""Run configurations: base.py holds every field, one small file a run changes some."""

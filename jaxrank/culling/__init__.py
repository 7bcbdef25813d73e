"""From a folder of photos to series, picks and sidecars. No photo is ever changed."""

"""Files: written atomically, read strictly. No module here knows what a photo is."""

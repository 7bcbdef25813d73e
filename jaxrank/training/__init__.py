"""The compiled training program and the state that it updates."""

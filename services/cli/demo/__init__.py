"""`vigil demo`: the main job from end to end, bounded, with an account at the end."""

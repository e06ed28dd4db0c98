"""Trained routes at work: transcription, classification, language identification, baking, ONNX."""

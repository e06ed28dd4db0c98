"""Use of trained models: transcription, classification, language identification, packing, baking, ONNX."""

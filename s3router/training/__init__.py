"""What training shares between speech recognition and SUPERB: files, logs, arithmetic, parameters, experiments."""

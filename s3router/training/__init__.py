"""Training as speech recognition and SUPERB share it: experiments, parameters, checkpoints, arithmetic, logs."""

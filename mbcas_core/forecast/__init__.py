"""What a container will use: one module per forecaster, one signature."""

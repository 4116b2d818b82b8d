"""ResNet v1.5 on ImageNet for the Model Garden, as MLPerf defines it."""

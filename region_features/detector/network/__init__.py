"""The bottom-up-attention network's parts, registered with detectron2."""

"""Parts of the bottom-up-attention network, registered with detectron2."""

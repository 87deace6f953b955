"""Any other detectron2 R-CNN in place of the bottom-up-attention network."""

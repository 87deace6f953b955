"""The region record and its encodings; knows no Beam, torch or tensorflow."""

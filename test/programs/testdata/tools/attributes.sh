python3 "$SCRIPTS/attributes.py" "$RSA" "$EC"

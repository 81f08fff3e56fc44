python3 "$SCRIPTS/mechanisms.py"

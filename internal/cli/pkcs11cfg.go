package cli

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"strings"

	"github.com/claviger/claviger/api"
)

const maxPKCS11Cfg = 64 << 10 // bytes

// readPKCS11Cfg takes the label and the CKA_ID of an object from a pkcs11.cfg, the
// file that stands beside a key in ONAP's SoftHSM plug-ins.
func readPKCS11Cfg(path string, req *api.AdoptKey) error {
	if req.Label != "" || req.ID != "" {
		return usagef("--pkcs11-cfg says which key is meant; leave --label and --id out")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the pkcs11.cfg: %w", err)
	}
	defer clear(data) // PINs of the token may stand in it
	if req.Label, req.ID, err = parsePKCS11Cfg(data); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// parsePKCS11Cfg reads lines NAME:VALUE. key_label is a CKA_LABEL; key_id is a
// decimal number whose big-endian bytes, without zeros before them, are the CKA_ID:
// 8738 is 2222. The PINs and the slot that may stand there are not looked at.
func parsePKCS11Cfg(data []byte) (label, id string, err error) {
	if len(data) > maxPKCS11Cfg {
		return "", "", fmt.Errorf("the file has %d bytes, and a pkcs11.cfg up to %d", len(data), maxPKCS11Cfg)
	}
	for number, line := range bytes.Split(data, []byte("\n")) {
		name, value, ok := strings.Cut(strings.TrimRight(string(line), "\r"), ":")
		switch strings.TrimSpace(name) {
		case "":
			if ok {
				return "", "", fmt.Errorf("line %d has no name before its colon", number+1)
			}
		case "key_label":
			label = value
		case "key_id":
			n, valid := new(big.Int).SetString(strings.TrimSpace(value), 10)
			if !valid || n.Sign() <= 0 || n.BitLen() > 64*8 {
				return "", "", fmt.Errorf("line %d: key_id is a decimal number above 0, of up to 64 bytes", number+1)
			}
			id = hex.EncodeToString(n.Bytes())
		case "upin", "sopin", "slot":
		default:
			return "", "", fmt.Errorf("line %d is none of key_id, key_label, upin, sopin and slot", number+1)
		}
	}
	if label == "" && id == "" {
		return "", "", fmt.Errorf("it has neither key_id nor key_label")
	}
	return label, id, nil
}

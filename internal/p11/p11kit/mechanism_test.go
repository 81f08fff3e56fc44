package p11kit

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/p11"
)

// How mechanisms travel in each version, after p11-kit's sources: up to version 1 any
// other than those with a structure has room for bytes, from version 2 on only those
// with a parameter have one, and say whether it is there.
func TestMechanisms(t *testing.T) {
	t.Parallel()
	const (
		number  = "00000000000000"
		none    = "ffffffff"
		pss     = number + "50" + number + "02" + number + "20"
		ecdh    = number + "01" + none + "00000002" + "0417"
		gcm     = "00000003" + "010203" + number + "18" + "00000001" + "aa" + number + "60"
		aes     = "00000010" + "00112233445566778899aabbccddeeff"
		general = number + "0c"
	)
	iv := []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	for _, c := range []struct {
		from, to uint8 // versions
		text     string
		want     *p11.Mechanism
	}{
		{0, 1, "00000040" + none, &p11.Mechanism{Number: p11.CKM_SHA256_RSA_PKCS}},
		{2, 2, "00000040", &p11.Mechanism{Number: p11.CKM_SHA256_RSA_PKCS}},
		{0, 1, "00000040" + "00000001" + "07", &p11.Mechanism{Number: p11.CKM_SHA256_RSA_PKCS, Form: p11.ParamRaw, Raw: []byte{7}}},
		{0, 1, "0000000d" + pss, &p11.Mechanism{Number: p11.CKM_RSA_PKCS_PSS, Form: p11.ParamPSS, PSS: p11.PSS{Hash: 0x50, MGF: 2, Salt: 32}}},
		{2, 2, "0000000d" + "01" + pss, &p11.Mechanism{Number: p11.CKM_RSA_PKCS_PSS, Form: p11.ParamPSS, PSS: p11.PSS{Hash: 0x50, MGF: 2, Salt: 32}}},
		{2, 2, "0000000d" + "00", &p11.Mechanism{Number: p11.CKM_RSA_PKCS_PSS}},
		{0, 1, "00000009" + pss + "00000001" + "6c", &p11.Mechanism{Number: p11.CKM_RSA_PKCS_OAEP, Form: p11.ParamOAEP,
			OAEP: p11.OAEP{Hash: 0x50, MGF: 2, Source: 32, Label: []byte("l")}}},
		{1, 1, "00001050" + ecdh, &p11.Mechanism{Number: p11.CKM_ECDH1_DERIVE, Form: p11.ParamECDH, ECDH: p11.ECDH{KDF: 1, Public: []byte{4, 0x17}}}},
		{2, 2, "00001050" + "01" + ecdh, &p11.Mechanism{Number: p11.CKM_ECDH1_DERIVE, Form: p11.ParamECDH, ECDH: p11.ECDH{KDF: 1, Public: []byte{4, 0x17}}}},
		{1, 1, "00001087" + gcm, &p11.Mechanism{Number: p11.CKM_AES_GCM, Form: p11.ParamGCM, GCM: p11.GCM{IV: []byte{1, 2, 3}, IVBits: 24, AAD: []byte{0xaa}, TagBits: 96}}},
		{2, 2, "00001087" + "01" + gcm, &p11.Mechanism{Number: p11.CKM_AES_GCM, Form: p11.ParamGCM, GCM: p11.GCM{IV: []byte{1, 2, 3}, IVBits: 24, AAD: []byte{0xaa}, TagBits: 96}}},
		{1, 1, "00001085" + aes, &p11.Mechanism{Number: p11.CKM_AES_CBC_PAD, Form: p11.ParamRaw, Raw: iv}},
		{2, 2, "00001082" + "01" + aes, &p11.Mechanism{Number: p11.CKM_AES_CBC, Form: p11.ParamRaw, Raw: iv}},
		{2, 2, "00000252" + "01" + general, &p11.Mechanism{Number: p11.CKM_SHA256_HMAC_GENERAL, Form: p11.ParamNumber, Value: 12}},
		{2, 2, none, nil},
	} {
		for version := c.from; version <= c.to; version++ {
			b, err := hex.DecodeString(c.text)
			if err != nil {
				t.Fatal(err)
			}
			r := &reader{p11.NewReader(b), version}
			got := r.mechanism()
			if err := r.End(); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("version %d: %s is %+v, %v", version, c.text, got, err)
			}
			for n := range b {
				r := &reader{p11.NewReader(b[:n]), version}
				if r.mechanism(); r.End() == nil {
					t.Errorf("version %d: %s is read from %d bytes", version, c.text, n)
				}
			}
		}
	}
	r := &reader{p11.NewReader([]byte{0xff, 0xff, 0xff, 0xff}), 1}
	if r.mechanism(); r.Err == nil {
		t.Error("version 1 has NULL mechanisms")
	}
}

// The calls have the numbers and the values of rpc-message.h: every name once, and
// signatures of known letters only.
func TestCalls(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := 1; n < len(calls); n++ {
		k := calls[n]
		if seen[k.name] || !strings.HasPrefix(k.name, "C_") || strings.Trim(k.request, "uyszvAMaf") != "" || strings.Trim(k.response, "uyszvAPa") != "" {
			t.Errorf("call %d: %+v", n, k)
		}
		seen[k.name] = true
	}
}

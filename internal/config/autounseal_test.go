package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidateAutoUnseal(t *testing.T) {
	t.Parallel()
	const (
		auto    = "[custody]\nkind=\"auto\"\nprovider="
		transit = auto + "\"transit\"\n[custody.transit]\nkey=\"k\"\ntoken_file=\"/t\"\n"
		kms     = auto + "\"awskms\"\n[custody.kms]\n"
	)
	for _, tt := range []struct{ name, text, want string }{
		{"tpm", auto + `"tpm"`, ""},
		{"tpm with PCRs", auto + "\"tpm\"\n[custody.tpm]\npcrs=[0,7,23]", ""},
		{"credential", auto + `"systemd-credential"`, ""},
		{"transit", transit + `address="https://h:8200"`, ""},
		{"transit by a socket", transit + `address="unix:///run/s"`, ""},
		{"transit on loopback", transit + `address="http://127.0.0.1:8200"`, ""},
		{"kms", kms + `options={kms_key_id="alias/c",region="eu-central-1"}`, ""},

		{"no provider", "[custody]\nkind=\"auto\"", "custody.provider"},
		{"another provider", auto + `"pkcs11"`, `"systemd-credential"`},
		{"provider of shares", "[custody]\nprovider=\"tpm\"", `"auto" where a provider is given`},
		{"with a PIN", auto + "\"tpm\"\npin_file=\"/p\"", "custody.kind"},
		{"PCR", auto + "\"tpm\"\n[custody.tpm]\npcrs=[24]", "0 to 23"},
		{"PCR twice", auto + "\"tpm\"\n[custody.tpm]\npcrs=[7,7]", "different numbers"},
		{"device", auto + "\"tpm\"\n[custody.tpm]\ndevice=\"tpm0\"", "custody.tpm.device"},
		{"credential with a slash", auto + "\"systemd-credential\"\n[custody.credential]\nname=\"../x\"", "custody.credential.name"},
		{"no credential", auto + "\"systemd-credential\"\n[custody.credential]\nname=\"\"", "custody.credential.name"},
		{"no address", transit, "custody.transit.address"},
		{"plain HTTP", transit + `address="http://vault.example.org:8200"`, "on this machine only"},
		{"plain HTTP, no port", transit + `address="http://192.0.2.1"`, "on this machine only"},
		{"password in the address", transit + `address="https://u:p@h"`, "custody.transit.address"},
		{"another scheme", transit + `address="ftp://h"`, "custody.transit.address"},
		{"no socket", transit + `address="unix:///"`, "custody.transit.address"},
		{"half a certificate", transit + "address=\"https://h\"\nclient_cert=\"/c\"", "client_key"},
		{"mount", transit + "address=\"https://h\"\nmount=\"/\"", "custody.transit.mount"},
		{"key", auto + "\"transit\"\n[custody.transit]\naddress=\"https://h\"\ntoken_file=\"/t\"\nkey=\"a/b\"", "custody.transit.key"},
		{"no token", auto + "\"transit\"\n[custody.transit]\naddress=\"https://h\"\nkey=\"k\"", "custody.transit.token_file"},
		{"no options", auto + `"gcpckms"`, "custody.kms.options"},
		{"a secret", kms + `options={secret_key="hush"}`, "no secret stands in this file"},
		{"an option with a line break", kms + `options={region="a\nb"}`, "custody.kms.options.region"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			switch err = c.Validate(); {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q in it", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Error("the error shows a secret")
			}
			if w := strings.Join(c.Warnings(), "\n"); (c.Custody.Kind == CustodyAuto) != strings.Contains(w, "opens without a custodian") {
				t.Errorf("warnings %q", w)
			}
		})
	}
}

func TestAutoUnsealFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Dev(dir)
	c.Custody.Kind, c.Custody.Provider = CustodyAuto, ProviderTransit
	c.Custody.Transit.TokenFile, c.Custody.Transit.ClientKey = open, filepath.Join(dir, "absent")
	err := c.CheckFiles()
	for _, field := range []string{"custody.transit.token_file", "custody.transit.client_key"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

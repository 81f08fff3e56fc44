package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token/worker"
)

// TestRenderSlots: the list as the documents of hsmdaemon show it.
func TestRenderSlots(t *testing.T) {
	t.Parallel()
	const unknown = 1<<64 - 1
	got := renderSlots([]slot{{
		ID: 550099622, Description: "SoftHSM slot ID 0x20c9daa6", Label: "oc token without pin", Serial: "e8ba06bca0c9daa6",
		Manufacturer: "SoftHSM project", Model: "SoftHSM v2", Firmware: "2.2", Initialized: true, UserPINSet: true, MinPIN: 4, MaxPIN: 255,
		Detail: worker.SlotDetail{
			SlotManufacturer: "SoftHSM project", SlotHardware: "2.2", SlotFirmware: "2.2", TokenHardware: "2.2", TokenPresent: true,
			SlotFlags: []string{"CKF_TOKEN_PRESENT"},
			TokenFlags: []string{"CKF_RNG", "CKF_LOGIN_REQUIRED", "CKF_USER_PIN_INITIALIZED", "CKF_RESTORE_KEY_NOT_NEEDED",
				"CKF_TOKEN_INITIALIZED", "CKF_USER_PIN_COUNT_LOW"},
			Sessions: unknown, RWSessions: unknown, TotalPublic: unknown, FreePublic: unknown, TotalPrivate: unknown, FreePrivate: unknown,
			UTCTime: "2019021408270200",
		},
	}})
	const want = `Available slots:
Slot: 550099622,
Slot info:
Description: SoftHSM slot ID 0x20c9daa6
Manufacturer ID: SoftHSM project
Hardware version: 2.2
Firmware version: 2.2
Token present: yes
Flags:
Token info:
Manufacturer ID: SoftHSM project
Model: SoftHSM v2
Hardware version: 2.2
Firmware version: 2.2
Serial number: e8ba06bca0c9daa6
Initialized: yes
User PIN init.: yes
Label: oc token without pin
MaxSessionCount: 0
SessionCount: 18446744073709551615
MaxRwSessionCount: 0
RwSessionCount: 18446744073709551615
MaxPinLen: 255
MinPinLen: 4
TotalPublicMemory: 18446744073709551615
FreePublicMemory: 18446744073709551615
TotalPrivateMemory: 18446744073709551615
FreePrivateMemory: 18446744073709551615
UTCTime: 2019021408270200
Flags: CKF_RNG CKF_LOGIN_REQUIRED CKF_RESTORE_KEY_NOT_NEEDED CKF_USER_PIN_COUNT_LOW
`
	if got != want {
		t.Errorf("the list is\n%s", got)
	}
}

// TestRenderSlotsFields: every field has its own value, and every slot its lines.
func TestRenderSlotsFields(t *testing.T) {
	t.Parallel()
	got := renderSlots([]slot{{}, {
		ID: 7, Description: "d", Label: "l", Serial: "s", Manufacturer: "token maker", Model: "m", Firmware: "1.4", Initialized: true, MinPIN: 5, MaxPIN: 6,
		Detail: worker.SlotDetail{
			SlotManufacturer: "slot maker", SlotHardware: "1.1", SlotFirmware: "1.2", TokenHardware: "1.3",
			SlotFlags: []string{"CKF_TOKEN_PRESENT", "CKF_HW_SLOT"}, MaxSessions: 10, Sessions: 11, MaxRWSessions: 12, RWSessions: 13,
			TotalPublic: 14, FreePublic: 15, TotalPrivate: 16, FreePrivate: 17, UTCTime: "u",
		},
	}, {UserPINSet: true, Detail: worker.SlotDetail{TokenPresent: true}}})
	const want = `Slot: 7,
Slot info:
Description: d
Manufacturer ID: slot maker
Hardware version: 1.1
Firmware version: 1.2
Token present: no
Flags: CKF_HW_SLOT
Token info:
Manufacturer ID: token maker
Model: m
Hardware version: 1.3
Firmware version: 1.4
Serial number: s
Initialized: yes
User PIN init.: no
Label: l
MaxSessionCount: 10
SessionCount: 11
MaxRwSessionCount: 12
RwSessionCount: 13
MaxPinLen: 6
MinPinLen: 5
TotalPublicMemory: 14
FreePublicMemory: 15
TotalPrivateMemory: 16
FreePrivateMemory: 17
UTCTime: u
Flags:
Slot: 0,
`
	if !strings.Contains(got, "\n"+want) || strings.Count(got, "Slot: ") != 3 {
		t.Errorf("the list is\n%s", got)
	}
	if last := got[strings.LastIndex(got, "Slot: "):]; !strings.Contains(last, "Token present: yes\n") ||
		!strings.Contains(last, "Initialized: no\nUser PIN init.: yes\n") {
		t.Errorf("the last slot is\n%s", last)
	}
}

func hsmdaemonFile(t *testing.T, text string) (*config.HSMDaemonFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hsmdaemon.toml")
	if err := os.WriteFile(path, []byte("[pkcs11]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.LoadHSMDaemonFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f, path
}

// TestServiceUnit lets systemd judge the unit that install writes.
func TestServiceUnit(t *testing.T) {
	t.Parallel()
	_, file := hsmdaemonFile(t, "[logger]\npath = \"/var/log/hsm.log\"\n[line]\nsocket = \"/run/hsmdaemon/s\"\nkey = \"k\"")
	dir := t.TempDir()
	a, out, errs := testApp(t)
	root := a.root()
	root.SetArgs([]string{"hsmdaemon", "install", "--config", file, "--unit-dir", dir})
	if err := root.Execute(); err != nil {
		t.Fatalf("%v %s", err, errs)
	}
	if !strings.HasPrefix(out.String(), "Install HSM Daemon:  ") || !strings.HasSuffix(out.String(), "[  OK  ]\n") {
		t.Errorf("said %q", out)
	}
	path := filepath.Join(dir, "hsmdaemon.service")
	unit, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		" hsmdaemon --config " + file, "Type=notify", "StateDirectory=hsmdaemon", "ProtectSystem=strict", "NoNewPrivileges=yes",
		"ReadWritePaths=-/var/lib/softhsm -/var/lib/opencryptoki /var/lib/hsmdaemon /var/log /run/hsmdaemon",
	} {
		if !strings.Contains(string(unit), line) {
			t.Errorf("the unit lacks %q:\n%s", line, unit)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (Debian package systemd)")
	}
	for _, args := range [][]string{{"verify", path}, {"security", "--offline=yes", "--threshold=30", path}} {
		if text, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || args[0] == "verify" && len(text) != 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, text)
		}
	}
}

func TestServiceUnitPaths(t *testing.T) {
	t.Parallel()
	f, file := hsmdaemonFile(t, "[server]\nstate = \"/srv/hsm daemon\"")
	unit, err := serviceUnit(f, file, "hsm")
	if err != nil || !strings.Contains(unit, `"/srv/hsm daemon"`) || strings.Contains(unit, "StateDirectory") || !strings.Contains(unit, "User=hsm\n") {
		t.Errorf("%v\n%s", err, unit)
	}
	for _, user := range []string{"root\nExecStartPre=x", "%u", `"`} {
		if _, err := serviceUnit(f, file, user); err == nil {
			t.Errorf("the user %q stands in a unit", user)
		}
	}
}

// TestWithoutSystemd: elsewhere the message says what to do.
func TestWithoutSystemd(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(systemdRuns); err == nil {
		t.Skip("systemd runs this machine")
	}
	for _, command := range []string{"install", "uninstall", "start", "stop", "status"} {
		a, _, _ := testApp(t)
		root := a.root()
		root.SetArgs([]string{"hsmdaemon", command})
		cmd, err := root.ExecuteC()
		if err == nil || !strings.Contains(err.Error(), "systemd does not run this machine") || a.hint(cmd, err) == "" {
			t.Errorf("%s: %v", command, err)
		}
	}
}

package cli

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

func TestRustLevel(t *testing.T) {
	t.Parallel()
	const program = "cryptoserver"
	for text, want := range map[string]slog.Level{
		"": slog.LevelWarn, "INFO": slog.LevelInfo, "info": slog.LevelInfo, "off": logOff, "error": slog.LevelError,
		"trace": slog.LevelDebug - 4, "cryptoserver": slog.LevelDebug - 4, "cryptoserver=debug": slog.LevelDebug,
		"error,cryptoserver=info": slog.LevelInfo, "cryptoserver=info,error": slog.LevelInfo, "hyper=debug": slog.LevelWarn,
		"debug,hyper=error": slog.LevelDebug, "info/pattern": slog.LevelInfo, "cryptoserver=loud": slog.LevelWarn, "=": slog.LevelWarn,
		" warn , cryptoserver = x": slog.LevelWarn,
	} {
		if got := rustLevel(text, program, slog.LevelWarn); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// FuzzRustLevel: no value of the variable is an error.
func FuzzRustLevel(f *testing.F) {
	f.Add("info,cryptoserver=debug/x")
	f.Add("=,=,")
	f.Fuzz(func(t *testing.T, text string) {
		level := rustLevel(text, "cryptoserver", slog.LevelWarn)
		for _, known := range rustLevels {
			if level == known {
				return
			}
		}
		t.Errorf("%q: %v", text, level)
	})
}

func TestRustHandler(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := slog.New(newRustHandler(&b, "cryptoserver", slog.LevelInfo)).With("a", 1)
	log.Debug("not shown")
	log.Info("cryptoserver started", "address", "x y")
	line := b.String()
	if !strings.HasSuffix(line, " INFO cryptoserver cryptoserver started a=1 address=\"x y\"\n") || len(strings.SplitN(line, " ", 2)[0]) != len("2021-01-03T11:18:58Z") {
		t.Errorf("%q", line)
	}
	b.Reset()
	slog.New(newRustHandler(&b, "x", logOff)).Error("not shown")
	if b.Len() > 0 {
		t.Errorf("off: %q", b.String())
	}
}

// TestCryptoserverSettings reads the environment as the original does, but for
// modes that are none. It is not parallel: the environment is the process's.
func TestCryptoserverSettings(t *testing.T) {
	f := cryptoserverFlags{stateDir: t.TempDir(), index: "current"}
	for _, name := range []string{"CRYPTOSERVER_MODE", "CRYPTOSERVER_SECRETDIR", "CRYPTOSERVER_BIND"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	_, cfg, err := f.configuration()
	if err != nil {
		t.Fatal(err)
	}
	if c := cfg.Front.Cryptoserver; c.Address != "0.0.0.0:8080" || c.SecretDir != "/secrets" || c.PoolMode != "MODE0" || !c.Enabled || !c.Open {
		t.Errorf("%+v", c)
	}
	for _, mode := range []string{"Mode16", "mode16", "MODE8", " MODE16", ""} {
		t.Setenv("CRYPTOSERVER_MODE", mode)
		if _, _, err := f.configuration(); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "CRYPTOSERVER_MODE") {
			t.Errorf("mode %q: %v", mode, err)
		}
	}
	t.Setenv("CRYPTOSERVER_MODE", "MODE32")
	t.Setenv("CRYPTOSERVER_SECRETDIR", "secrets")
	t.Setenv("CRYPTOSERVER_BIND", "127.0.0.1:8081")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	f.index, f.tlsCert, f.tlsKey = "pre-2021-09-13", "/c", "/k"
	alone, cfg, err := f.configuration()
	if err != nil {
		t.Fatal(err)
	}
	if c := cfg.Front.Cryptoserver; c.Address != "127.0.0.1:8081" || c.SecretDir != filepath.Join(here, "secrets") || c.PoolMode != "MODE32" ||
		c.Index != "pre-2021-09-13" || c.TLSCert != "/c" || c.TLSKey != "/k" || c.Insecure || alone.Dir != f.stateDir {
		t.Errorf("%+v in %s", c, alone.Dir)
	}
	f.index = "old"
	if _, _, err := f.configuration(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an index that is none: %v", err)
	}
	f.index = "current"
	t.Setenv("CRYPTOSERVER_BIND", "127.0.0.1:99999")
	if _, _, err := f.configuration(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an address that is none: %v", err)
	}
}

func TestStatePIN(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := statePIN(dir)
	if err != nil || len(first) < 26 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	again, err := statePIN(dir)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("it changed: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "pin")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if other, err := statePIN(t.TempDir()); err != nil || len(other) != len(first) || bytes.Equal(first, other) {
		t.Errorf("the PIN of another directory: %d bytes, %v", len(other), err)
	}
	unreadable := t.TempDir()
	if err := os.Mkdir(filepath.Join(unreadable, "pin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if pin, err := statePIN(unreadable); fault.KindOf(err) != fault.Invalid || len(pin) > 0 {
		t.Errorf("a file that can't be read: %d bytes, %v", len(pin), err)
	}
	if err := os.Mkdir(filepath.Join(dir, "token"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "pin")); err != nil {
		t.Fatal(err)
	}
	if _, err := statePIN(dir); fault.KindOf(err) != fault.Invalid {
		t.Errorf("the PIN of a token is gone: %v", err)
	}
}

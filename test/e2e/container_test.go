package e2e

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

const deploy = "../../deploy/"

// image is what deploy/Dockerfile says of the container.
type image struct {
	stages     []string
	user       string
	env        map[string]string
	volumes    []string
	entrypoint []string
	health     string // a command of sh
}

func readImage(t *testing.T) *image {
	t.Helper()
	i := &image{env: map[string]string{}}
	list := func(text string) (l []string) {
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return l
	}
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(readFile(t, deploy+"Dockerfile")), "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch instruction {
		case "FROM":
			i.stages = append(i.stages, rest)
		case "USER":
			i.user = rest
		case "ENV":
			for _, f := range strings.Fields(rest) {
				name, value, _ := strings.Cut(f, "=")
				i.env[name] = value
			}
		case "VOLUME":
			i.volumes = list(rest)
		case "ENTRYPOINT":
			i.entrypoint = list(rest)
		case "HEALTHCHECK":
			_, i.health, _ = strings.Cut(rest, " CMD ")
		case "COPY":
			f := strings.Fields(rest)
			if option := f[0]; strings.HasPrefix(option, "--") && !strings.HasPrefix(option, "--from=") {
				t.Errorf("COPY %s: engines without BuildKit don't know it", option)
			}
			if source := f[len(f)-2]; strings.HasPrefix(source, "deploy/") {
				readFile(t, "../../"+source)
			}
		}
	}
	return i
}

// TestContainerFiles reads what deploy/ has for containers.
func TestContainerFiles(t *testing.T) {
	t.Parallel()
	i := readImage(t)
	if len(i.stages) != 2 || i.stages[1] != "debian:bookworm-slim" || i.user != "10001:10001" {
		t.Errorf("stages %q, user %q", i.stages, i.user)
	}
	var compose struct {
		Services map[string]struct {
			Build       struct{ Context, Dockerfile string }
			Environment map[string]string
			Ports       []string
			Volumes     []string
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(readFile(t, deploy+"compose.yaml"), &compose); err != nil {
		t.Fatal(err)
	}
	s, ok := compose.Services["movault"]
	if !ok || !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" {
		t.Errorf("%+v", s)
	}
	readFile(t, filepath.Join(deploy, s.Build.Context, s.Build.Dockerfile))
	// At the top: an ignore file beside the Dockerfile is read by BuildKit only.
	ignored := "\n" + string(readFile(t, filepath.Join(deploy, s.Build.Context, ".dockerignore")))
	for _, path := range []string{".git", "deploy/publickeys", "deploy/tokens"} {
		if !strings.Contains(ignored, "\n"+path+"\n") {
			t.Errorf("%s goes into the image's build", path)
		}
	}
	defaults := regexp.MustCompile(`\$\{[A-Z_]+:-([^}]*)\}`)
	for _, name := range []string{"HSM_KEYSHARES", "HSM_KEY_THESHOLD", "MY_TOKENLABEL", "PINSECRET"} {
		value, ok := s.Environment[name]
		if !ok || !strings.HasPrefix(value, "${"+name+":-") || defaults.ReplaceAllString(value, "$1") != i.env[name] {
			t.Errorf("%s is %q in the compose file, %q in the Dockerfile", name, value, i.env[name])
		}
	}
	if len(s.Ports) != 1 || defaults.ReplaceAllString(s.Ports[0], "$1") != "127.0.0.1:8443:8443" {
		t.Errorf("ports %q", s.Ports)
	}
	mounts := map[string]string{}
	for _, v := range s.Volumes {
		f := strings.Split(defaults.ReplaceAllString(v, "$1"), ":")
		mounts[f[1]] = f[0]
	}
	for _, v := range i.volumes {
		if _, ok := compose.Volumes[mounts[v]]; !ok {
			t.Errorf("%s is %q, which is no volume of the compose file", v, mounts[v])
		}
	}
	if !strings.Contains(string(readFile(t, deploy+"softhsm2.conf")), "directories.tokendir = "+i.volumes[0]+"\n") {
		t.Error("SoftHSM2's tokens are in no volume")
	}
}

// TestContainerStart runs the image's command and its health check without a
// container: as its user, where this test may do that on a file system that is
// read-only but for the volumes.
func TestContainerStart(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can run a program as another user")
	}
	i, c := readImage(t), newCeremony(t)
	module, _ := tokentest.SoftHSM(t)
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for the other user
		t.Fatal(err)
	}
	in := func(path string) string { return filepath.Join(dir, path) }
	for _, v := range i.volumes {
		if err := os.MkdirAll(in(v), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(in(v), 10001, 10001); err != nil {
			t.Fatal(err)
		}
	}
	replace := strings.NewReplacer(i.volumes[0], in(i.volumes[0]), i.volumes[1], in(i.volumes[1]), "/opt/publickeys", in("publickeys"),
		i.env["SOFTHSM2_CONF"], in("softhsm2.conf"), i.env["PKCS11_MODULE"], module, "0.0.0.0:8443", "127.0.0.1:0")
	if err := os.WriteFile(in("softhsm2.conf"), []byte(replace.Replace(string(readFile(t, deploy+"softhsm2.conf")))), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-ec", `cp -R "$1" "$3/publickeys"; chmod -R a+rX "$3/publickeys"; cp "$2" "$3/claviger"; chmod 755 "$3/claviger"`,
		"sh", c.keys, harness.Binary(t), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env := []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	for name, value := range i.env {
		env = append(env, name+"="+replace.Replace(value))
	}
	contained := func(args ...string) *exec.Cmd {
		program := []string{"setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups", "--no-new-privs", "--"}
		if exec.Command("unshare", "--mount", "mount", "-o", "remount,bind,ro", "/").Run() == nil {
			program = append([]string{"unshare", "--mount", "sh", "-ec", `mount --bind "$0" "$0"; mount -o remount,bind,ro /; exec "$@"`, dir}, program...)
		}
		program = append(program, args...)
		cmd := exec.Command(program[0], program[1:]...)
		cmd.Dir, cmd.Env = "/", env
		return cmd
	}
	command := append([]string{}, i.entrypoint...)
	for n := range command {
		command[n] = replace.Replace(command[n])
	}
	if err := contained("sh", "-c", i.health).Run(); err == nil {
		t.Error("the health check succeeds without a server")
	}
	checkContainer(t, served(t, contained(command...)))
	if out, err := contained("sh", "-c", i.health).CombinedOutput(); err != nil {
		t.Errorf("the health check: %v\n%s", err, out)
	}
	if shares, err := filepath.Glob(in(i.volumes[0]) + "/*.pin.gpg"); err != nil || len(shares) != 3 {
		t.Errorf("shares %q, %v", shares, err)
	}
}

func checkContainer(t *testing.T, at string) {
	t.Helper()
	if out := moVaultCurl(t, at); !strings.HasSuffix(out, `{"Verify Result":true}`+"\n") {
		t.Errorf("curl shows\n%s", out)
	}
}

// TestContainer builds the image and runs it as the compose file does.
func TestContainer(t *testing.T) {
	t.Parallel()
	docker := func(args ...string) (string, error) {
		out, err := exec.Command("docker", args...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	if out, err := docker("info"); err != nil {
		t.Skipf("no container engine answers docker info: %v %.200s", err, out)
	}
	c := newCeremony(t)
	if out, err := exec.Command("chmod", "-R", "a+rX", c.keys).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	name := "claviger-test-" + strings.ToLower(rand.Text())
	must := func(args ...string) string {
		t.Helper()
		out, err := docker(args...)
		if err != nil {
			t.Fatalf("docker %q: %v\n%s", args, err, out)
		}
		return out
	}
	must("build", "--file", deploy+"Dockerfile", "--tag", name, "../..")
	t.Cleanup(func() {
		_, _ = docker("rm", "--force", "--volumes", name)
		_, _ = docker("rmi", "--force", name)
	})
	must("run", "--detach", "--name", name, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true",
		"--volume", c.keys+":/opt/publickeys:ro", "--publish", "127.0.0.1:0:8443", name)
	health := ""
	for deadline := time.Now().Add(90 * time.Second); health != "healthy" && time.Now().Before(deadline); time.Sleep(time.Second) {
		health = must("inspect", "--format", "{{.State.Health.Status}}", name)
	}
	if health != "healthy" {
		t.Fatalf("it is %s:\n%s", health, must("logs", name))
	}
	checkContainer(t, "http://"+must("port", name, "8443/tcp"))
}

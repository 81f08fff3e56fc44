package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

func TestExamine(t *testing.T) {
	t.Parallel()
	cfg := softConfig(t)
	openToken(t, cfg).Close()
	r, err := Examine(within(t), cfg, nil)
	if err != nil || len(r.Slots) != 2 || r.Slots[0].Label != "test" || len(r.Slots[0].Mechanisms) < 20 || r.Types != nil {
		t.Fatalf("without a PIN: %+v, %v", r, err)
	}
	// It makes RSA keys of all sizes, for which a busy machine takes its time.
	r, err = Examine(contextOf(t, 3*time.Minute), cfg, []byte(testPIN))
	if err != nil {
		t.Fatal(err)
	}
	text := r.String()
	for _, tr := range r.Types {
		chacha := tr.Type == token.ChaCha20 || tr.Type == token.XChaCha20
		if tr.Held == chacha || tr.Wrapped != (tr.Held && tr.Type != token.Ed25519) {
			t.Errorf("%v: %+v", tr.Type, tr)
		}
		for _, o := range tr.Operations {
			want := "native"
			if strings.Contains(o.Name, "OAEP") {
				want = "composed"
			}
			if o.How != want {
				t.Errorf("%v %s: %s %s", tr.Type, o.Name, o.How, o.Note)
			}
		}
	}
	if len(r.Rates) != 4 || r.Rates[0].PerSecond == 0 || !strings.Contains(text, "CKM_AES_GCM") {
		t.Errorf("rates: %+v\n%s", r.Rates, text)
	}
	t.Log(text)
}

package worker

import (
	"errors"
	"reflect"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

func TestWireRoundTrips(t *testing.T) {
	t.Parallel()
	l := loadRequest{slot: 7, from: fromBlob, typ: token.P256, id: token.ID{1, 2}, size: 3, label: "label", blob: []byte("blob"), agree: true}
	f, used, _, err := parseFrame(l.append(nil))
	if err != nil || used == 0 || f.kind != frameLoad {
		t.Fatal(f, used, err)
	}
	if got, err := parseLoad(f.payload); err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("%+v, %v", got, err)
	}
	s := setup{"/m", "l", "s", []string{"a", "b"}, []string{"c"}, true, false}
	if got, err := parseSetup(s.append(nil)); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, %v", got, err)
	}
	v := view{library: pkcs11.LibraryInfo{Manufacturer: "m"}, hardened: []string{"x"}, slots: []slotView{{id: 1 << 40,
		token: pkcs11.TokenInfo{Label: "t", MinPIN: 4, Usage: pkcs11.TokenUsage{Sessions: 5, FreePrivate: 1 << 40, UTCTime: "x"}}, mechs: []pkcs11.MechanismInfo{{Type: 1, Min: 2, Max: 3, Flags: 4}}}}}
	if got, err := parseView(&reader{b: v.append(nil)}); err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("%+v, %v", got, err)
	}
	fs := facts{kek: true, trusted: true, storage: token.RSA2048, storageKey: []byte("k"), forgedTag: 5, forgedBlob: 6, wrap: 7, canWrap: true}
	if got, err := parseFacts(&reader{b: fs.append(nil)}); err != nil || !reflect.DeepEqual(got, fs) {
		t.Errorf("%+v, %v", got, err)
	}
	st := token.Stored{Type: token.HMAC, Size: 64, Place: token.PlaceWrapped, ID: token.ID{9}, Blob: []byte("b"), Public: []byte("p")}
	if got, err := parseStored(&reader{b: appendStored(nil, st)}); err != nil || !reflect.DeepEqual(got, st) {
		t.Errorf("%+v, %v", got, err)
	}
	fl := &failure{reasonHold, "C_Sign", pkcs11.GeneralError, "text"}
	if got := parseStatus(&reader{b: appendFailure(nil, fl)}); !reflect.DeepEqual(got, error(fl)) {
		t.Errorf("%+v", got)
	}
}

func TestFailureText(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for _, tt := range []struct {
		f    *failure
		want string
	}{
		{failf(reasonCall, cause, ""), "cause"},
		{failf(reasonCall, cause, "doing %d", 1), "doing 1: cause"},
		{failf(reasonCall, &pkcs11.Error{Func: "C_Sign", Code: pkcs11.GeneralError}, "signing"), "signing: C_Sign: CKR_GENERAL_ERROR"},
		{failf(reasonCall, nil, "alone"), "alone"},
	} {
		if got := tt.f.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestDoFrame is the known answer of what a pkcs11.Lane reads.
func TestDoFrame(t *testing.T) {
	t.Parallel()
	op := pkcs11.Op{Func: pkcs11.Decrypt, Param: pkcs11.OAEP, Mech: 9, Hash: 0x250, MGF: 2, Salt: 4}
	got := appendDo([]byte("before"), 5, 6, op, []unit{{nonce: []byte("n"), aad: []byte("aad"), in: []byte("in"), room: 0x10}, {room: 3}})
	const want = "before" + "\x45\x00\x00\x00" + "\x06" + "\x05\x00\x00\x00" + // length, kind, number
		"\x06\x00\x00\x00" + "\x02\x03" + "\x09\x00\x00\x00" + "\x50\x02\x00\x00" + "\x02\x00\x00\x00" + "\x04\x00\x00\x00" + "\x02\x00\x00\x00" +
		"\x01\x00\x00\x00" + "\x03\x00\x00\x00" + "\x02\x00\x00\x00" + "\x10\x00\x00\x00" + "n" + "aad" + "in" +
		"\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x03\x00\x00\x00"
	if string(got) != want {
		t.Errorf("%x\nwant %x", got, want)
	}
}

// TestResults reads an answer as a pkcs11.Lane writes it.
func TestResults(t *testing.T) {
	t.Parallel()
	r := reader{b: []byte("\x00\x00\x00\x00" + "\x02\x00\x00\x00" + "\x03\x00\x00\x00" + "out" +
		"\x05\x00\x00\x00" + "\x01\x00\x00\x00" + "\x00\x00\x00\x00")}
	for i, want := range []result{{pkcs11.OK, pkcs11.AtCall, []byte("out")}, {pkcs11.GeneralError, pkcs11.AtInit, nil}} {
		if got := nextResult(&r); got.rv != want.rv || got.at != want.at || string(got.out) != string(want.out) {
			t.Errorf("result %d: %+v", i, got)
		}
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// FuzzWorkerDecoder feeds the decoders of the worker's side.
func FuzzWorkerDecoder(f *testing.F) {
	f.Add((&loadRequest{blob: []byte("b")}).append(nil))
	f.Add(endFrame(append(beginFrame(nil, frameSetup, 1), (&setup{module: "m", read: []string{"r"}}).append(nil)...), 0))
	f.Add(endFrame(append(beginFrame(nil, frameGenerate, 1), appendSpec(nil, token.Spec{Label: "x"})...), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, used, need, err := parseFrame(b)
		if err != nil || used == 0 {
			if err == nil && need <= len(b) {
				t.Fatalf("incomplete, but only %d of %d needed", need, len(b))
			}
			return
		}
		if l, err := parseLoad(fr.payload); err == nil && len(l.append(nil)) != used {
			t.Fatal("load does not come back")
		}
		parseSetup(fr.payload)
		parseSpec(fr.payload)
		(&reader{b: fr.payload}).parcel()
		(&reader{b: fr.payload}).newHalf()
	})
}

// FuzzServerDecoder feeds the decoders of the server's side.
func FuzzServerDecoder(f *testing.F) {
	f.Add((&view{slots: []slotView{{}}}).append(nil))
	f.Add((&facts{}).append([]byte{statusOK}))
	f.Add(appendFailure(nil, &failure{msg: "x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseView(&reader{b: b})
		parseStored(&reader{b: b})
		parseHalves(&reader{b: b})
		r := reader{b: b}
		if parseStatus(&r) == nil {
			parseFacts(&r)
		}
		r = reader{b: b}
		for range 10 {
			nextResult(&r)
		}
	})
}

func FuzzSoftHSMConf(f *testing.F) {
	f.Add("directories.tokendir = /x # y\n")
	f.Fuzz(func(t *testing.T, s string) { softHSMTokenDir(s) })
}

func TestSoftHSMConf(t *testing.T) {
	t.Parallel()
	for conf, want := range map[string]string{
		"directories.tokendir = /var/lib/softhsm/tokens/\n":     "/var/lib/softhsm/tokens/",
		"# directories.tokendir = /no\ndirectories.tokendir=/y": "/y",
		"objectstore.backend = file":                            "",
		"directories.tokendir = /a b # comment":                 "/a b",
	} {
		if got := softHSMTokenDir(conf); got != want {
			t.Errorf("%q: %q", conf, got)
		}
	}
}

func TestLRU(t *testing.T) {
	t.Parallel()
	var l lru
	l.init(2)
	key := func(b byte) identity { return identity{id: token.ID{b}} }
	a, _ := l.add(key(1))
	b, _ := l.add(key(2))
	l.get(key(1))
	c, dropped := l.add(key(3))
	if dropped != b || c.slot != b.slot || l.get(key(2)) != nil || l.get(key(1)) != a {
		t.Errorf("dropped %+v, new %+v", dropped, c)
	}
	if !l.remove(a) || l.remove(a) || len(l.m) != 1 {
		t.Error("remove")
	}
}

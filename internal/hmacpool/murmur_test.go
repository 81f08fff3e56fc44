package hmacpool

import "testing"

// TestMessageID compares with the values of the crate murmurhash32's own tests.
func TestMessageID(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]uint32{
		"": 36859204, "a": 3144985375, "ab": 3262304301, "abc": 476091040, "abcd": 412992581, "abcde": 2747833956,
		"abcdefghijklmnop": 2078305053,
	} {
		if got := messageID([]byte(message)); got != want {
			t.Errorf("%q: %d, want %d", message, got, want)
		}
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		message     string
		id          uint32
		offset      int
		file        uint16
		index       uint16
		long, short string
	}{
		{"hello world", 0xbd3364dc, 826240, 0xbd33, 25820, "bd33", ""},
		{"apples and pears", 0xbfa80ff6, 130752, 0xbfa8, 4086, "bfa8", ""},
		{"a", 0xbb74ab1f, 1401824, 0xbb74, 43807, "bb74", ""},
		{"\x00", 0xadc2aac1, 1398816, 0xadc2, 43713, "adc2", ""},
		{"msg8", 0x0b9fe22e, 1852864, 0x0b9f, 57902, "0b9f", "b9f"},
		{"msg6805", 0x000ca61e, 1360832, 0x000c, 42526, "000c", "c"},
	} {
		if id := messageID([]byte(c.message)); id != c.id {
			t.Errorf("%q: number %08x", c.message, id)
		}
		if at := (&Settings{Mode: Mode16}).place([]byte(c.message)); at != (place{0, c.index}) || int(at.record)*SecretSize != c.offset {
			t.Errorf("%q: MODE16 %v", c.message, at)
		}
		at := (&Settings{Mode: Mode32}).place([]byte(c.message))
		if at != (place{c.file, c.index}) || Mode32.fileName(at.file) != c.long || Mode32.shortName(at.file) != c.short {
			t.Errorf("%q: MODE32 %v %s %q", c.message, at, Mode32.fileName(at.file), Mode32.shortName(at.file))
		}
		if at := (&Settings{Mode: Mode32, Index: Old}).place([]byte(c.message)); at != (place{0xd40a, 27387}) {
			t.Errorf("%q: old index %v", c.message, at)
		}
		if at := (&Settings{Mode: Mode0}).place([]byte(c.message)); at != (place{}) {
			t.Errorf("%q: MODE0 %v", c.message, at)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "Mode16", "mode16", "MODE8", "MODE16 ", "16", "MODE032"} {
		if m, err := ParseMode(bad); err == nil {
			t.Errorf("mode %q was read as %v", bad, m)
		}
	}
	for _, m := range []Mode{Mode0, Mode16, Mode32} {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	for text, want := range map[string]Index{"": Current, "current": Current, "pre-2021-09-13": Old} {
		if x, err := ParseIndex(text); err != nil || x != want || text != "" && x.String() != text {
			t.Errorf("index %q: %v, %v", text, x, err)
		}
	}
	if _, err := ParseIndex("old"); err == nil {
		t.Error(`index "old" was taken`)
	}
}

// FuzzMessageID: no message leads out of the pool.
func FuzzMessageID(f *testing.F) {
	f.Add([]byte("hello world"))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, message []byte) {
		at := (&Settings{Mode: Mode32}).place(message)
		if id := messageID(message); uint32(at.file)<<16|uint32(at.record) != id {
			t.Errorf("%v of %08x", at, id)
		}
		if at := (&Settings{Mode: Mode16}).place(message); at.file != 0 {
			t.Errorf("MODE16 %v", at)
		}
	})
}

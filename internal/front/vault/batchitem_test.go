package vault

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
)

// TestWrongItemsAreNoted: a wrong value of a batch's item is noted in it, and what
// stands beside and behind it is read.
func TestWrongItemsAreNoted(t *testing.T) {
	t.Parallel()
	var r api.Encrypt
	_, err := decodeJSON([]byte(`{"batch_input":[
		{"plaintext":"!","reference":"first"},
		{"plaintext":"aGk=","context":{"a":[1,"]}"]},"key_version":"two","reference":"second"},
		{"plaintext":"aGk="}
	],"partial_failure_response_code":207}`), &r, 64)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.BatchInput) != 3 || r.PartialFailure != 207 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []api.EncryptItem{
		{BatchItem: api.BatchItem{Problem: "plaintext: " + base64Wanted}, Reference: "first"},
		{BatchItem: api.BatchItem{Problem: "context: must be a text in base64"}, Plaintext: []byte("hi"), Reference: "second"},
		{Plaintext: []byte("hi")},
	} {
		got := r.BatchInput[i]
		if got.Problem != want.Problem || string(got.Plaintext) != string(want.Plaintext) || got.Reference != want.Reference {
			t.Errorf("item %d: %+v, want %+v", i, got, want)
		}
	}
}

// TestBrokenItemsAreNotPassedOver: what is no JSON is refused as a whole.
func TestBrokenItemsAreNotPassedOver(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"batch_input":[{"plaintext":"!]}`,
		`{"batch_input":[{"plaintext":{"a":}}]}`,
		`{"batch_input":[{"plaintext":!}]}`,
		`{"batch_input":["aGk="]}`,
	} {
		var r api.Encrypt
		if _, err := decodeJSON([]byte(body), &r, 64); err == nil {
			t.Errorf("%s: read as %+v", body, r)
		}
	}
}

// FuzzBatchItems: what is no JSON is refused, whatever is wrong with its items too,
// and an item without a problem has what encoding/json reads in it.
func FuzzBatchItems(f *testing.F) {
	f.Add([]byte(`{"batch_input":[{"plaintext":"!","reference":"r"},{"plaintext":"aGk=","key_version":"two"},null]}`))
	f.Add([]byte(`{"batch_input":[{"context":{"a":[1,"]}"]},"plaintext":""}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var got api.Encrypt
		if _, err := decodeJSON(in, &got, 64); err != nil || strings.Trim(string(in), " \t\r\n") == "" {
			return
		}
		if !json.Valid(in) {
			t.Fatalf("%q was taken", in)
		}
		var want api.Encrypt
		if json.Unmarshal(in, &want) != nil || repeats(in) || len(want.BatchInput) != len(got.BatchInput) {
			return // weak types, which encoding/json does not have
		}
		for i, item := range got.BatchInput {
			if item.Problem == "" && !bytes.Equal(item.Plaintext, want.BatchInput[i].Plaintext) {
				t.Fatalf("%q: item %d is %+v, want %+v", in, i, item, want.BatchInput[i])
			}
		}
	})
}

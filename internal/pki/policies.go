package pki

import (
	"bytes"
	"encoding/asn1"
	"encoding/json"
	"net/url"
	"strings"
	"unicode/utf8"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Policy qualifiers (RFC 5280 section 4.2.1.4).
var (
	oidQualifierCPS    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 2, 1}
	oidQualifierNotice = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 2, 2}
)

// maxNotice bounds the explicit text of a notice in characters (RFC 5280, ibid.).
const maxNotice = 200

// policy is a certificate policy with what qualifies it.
type policy struct {
	oid    asn1.ObjectIdentifier
	cps    string // URL of the certification practice statement, "" if none
	notice string // explicit text of a user notice, "" if none
}

// splitPolicies returns one text for each policy. A list of objects in one text
// arrives cut at its commas: it is put together again. What is no such list stays
// as it is.
func splitPolicies(texts []string) []string {
	var out []string
	var list []json.RawMessage
	whole := strings.TrimSpace(strings.Join(texts, ","))
	if !strings.HasPrefix(whole, "[") || json.Unmarshal([]byte(whole), &list) != nil {
		for _, text := range texts {
			if text = strings.TrimSpace(text); text != "" {
				out = append(out, text)
			}
		}
		return out
	}
	for _, item := range list {
		var text string
		if json.Unmarshal(item, &text) != nil {
			text = string(item)
		}
		out = append(out, text)
	}
	return out
}

// parsePolicies reads certificate policies: each is an object identifier, or an
// object of JSON with oid and optionally cps and notice.
func parsePolicies(texts []string) ([]policy, error) {
	var out []policy
	for _, text := range splitPolicies(texts) {
		p, err := parsePolicy(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parsePolicy(text string) (p policy, err error) {
	var q struct{ OID, CPS, Notice string }
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil || d.More() {
			return p, invalid(`policy_identifiers %.200q: one with qualifiers is written {"oid":"1.3.6.1.4.1.99999.1","cps":"https://example.com/cps","notice":"text"}`, text)
		}
		text = q.OID
	}
	if p.oid, err = parseOID(strings.TrimSpace(text)); err != nil {
		return p, err
	}
	p.cps, p.notice = q.CPS, q.Notice
	if u, err := url.Parse(p.cps); p.cps != "" && (err != nil || u.Scheme == "" || strings.ContainsFunc(p.cps, notIA5)) {
		return p, invalid("policy %s: cps %.200q is no URL of ASCII characters", text, p.cps)
	}
	if utf8.RuneCountInString(p.notice) > maxNotice {
		return p, invalid("policy %s: its notice has more than %d characters", text, maxNotice)
	}
	return p, checkTextual("the policy's", p.notice)
}

func notIA5(r rune) bool { return r <= ' ' || r > '~' }

// policiesExtension is RFC 5280 section 4.2.1.4.
func policiesExtension(policies []policy) extension {
	return oidListExtension(oidPolicies, func(b *builder) {
		for _, p := range policies {
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				b.AddASN1ObjectIdentifier(p.oid)
				if p.cps != "" || p.notice != "" {
					b.AddASN1(cbasn1.SEQUENCE, p.addQualifiers)
				}
			})
		}
	})
}

func (p *policy) addQualifiers(b *builder) {
	if p.cps != "" {
		b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
			b.AddASN1ObjectIdentifier(oidQualifierCPS)
			b.AddASN1(cbasn1.IA5String, func(b *builder) { b.AddBytes([]byte(p.cps)) })
		})
	}
	if p.notice != "" {
		b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
			b.AddASN1ObjectIdentifier(oidQualifierNotice)
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				b.AddASN1(cbasn1.UTF8String, func(b *builder) { b.AddBytes([]byte(p.notice)) })
			})
		})
	}
}

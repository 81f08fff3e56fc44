package keys

import (
	"fmt"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

// chooseProtection decides where the secrets of a new key live. asked is "" for
// the default: wrapped on an HSM, or token for what it can't wrap; software on
// the embedded token.
func chooseProtection(info token.Info, t token.Type, asked api.Protection) (api.Protection, error) {
	hold := info.Holds[t]
	switch asked {
	case "":
		return defaultProtection(info, t)
	case api.ProtectionSoftware:
		return asked, nil
	case api.ProtectionWrapped:
		if !hold.Wrapped {
			return "", cantHold(info, t, asked)
		}
		return asked, nil
	case api.ProtectionToken:
		if !hold.Object {
			return "", cantHold(info, t, asked)
		}
		return asked, nil
	}
	return "", invalid("unknown protection %q: it is token, wrapped or software", asked)
}

func defaultProtection(info token.Info, t token.Type) (api.Protection, error) {
	hold := info.Holds[t]
	switch {
	case info.Embedded:
		return api.ProtectionSoftware, nil
	case hold.Wrapped:
		return api.ProtectionWrapped, nil
	case hold.Object:
		return api.ProtectionToken, nil
	}
	return "", cantHold(info, t, "")
}

// cantHold says what the HSM token can do instead.
func cantHold(info token.Info, t token.Type, asked api.Protection) error {
	hold := info.Holds[t]
	label := fmt.Sprintf("the HSM token %q", info.Label)
	hint := "ask for protection=software to keep the secret in server memory"
	switch {
	case hold.Object:
		return invalid("%s can't wrap keys of type %v", label, t).
			WithHint("it holds them as objects: ask for protection=token; or %s", hint)
	case hold.Wrapped:
		return invalid("%s can't keep keys of type %v as objects", label, t).
			WithHint("it holds them wrapped: ask for protection=wrapped; or %s", hint)
	}
	text := fmt.Sprintf("%s can't hold keys of type %v", label, t)
	if asked != "" {
		text += fmt.Sprintf(", so protection=%s is not possible", asked)
	}
	return fault.New(fault.Invalid, "%s", text).WithHint("%s; the HSM token holds: %s", hint, heldTypes(info))
}

func heldTypes(info token.Info) string {
	var names []string
	for _, t := range token.Types() {
		if h := info.Holds[t]; h.Wrapped || h.Object {
			names = append(names, t.String())
		}
	}
	if len(names) == 0 {
		return "no key type"
	}
	return strings.Join(names, ", ")
}

// macProtection decides where the separate HMAC secret of a version lives,
// beside a main secret of type t with protection main: at the same place; but
// where the HSM token can't wrap the main secret there is no reason to spend
// another object. "" means that the HSM token holds no HMAC keys.
func macProtection(info token.Info, t token.Type, main api.Protection) api.Protection {
	hold := info.Holds[token.HMAC]
	switch {
	case main == api.ProtectionSoftware:
		return main
	case main == api.ProtectionToken && info.Holds[t].Wrapped && hold.Object:
		return api.ProtectionToken
	case hold.Wrapped:
		return api.ProtectionWrapped
	case hold.Object:
		return api.ProtectionToken
	}
	return ""
}

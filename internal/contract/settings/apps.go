package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// maxApps is the maximum number of Apple apps, of Android apps, and of hosts in the settings.
const maxApps = 64

// Hosts is a list of host names of this server, each with a port if the port is not the default.
type Hosts []string

// UnmarshalJSON replaces the list; it converts host names to lower case.
func (h *Hosts) UnmarshalJSON(b []byte) error {
	names := []string(*h)
	if err := renew(b, &names, "want a list of host names"); err != nil || unsaid(b) {
		return err
	}
	*h = Hosts{}
	for _, name := range names {
		*h = append(*h, strings.ToLower(name))
	}
	return nil
}

// Has reports whether host, which must be in lower case, is in the list.
func (h Hosts) Has(host string) bool { return slices.Contains(h, host) }

var hostName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9_.-]{1,253}(:[0-9]{1,5})?$`)
})

func (h Hosts) validate(name string) error {
	if len(h) > maxApps {
		return fmt.Errorf("settings: %s has %d entries: want at most %d", name, len(h), maxApps)
	}
	for _, host := range h {
		if !hostName().MatchString(host) {
			return fmt.Errorf(
				"settings: %s has %.60q: want a host such as api.example.com, with a port where it is not the usual one", name, host)
		}
	}
	return nil
}

// AppleAppIDs is a list of Apple app IDs: a team ID or prefix of ten characters, a dot and the bundle identifier.
type AppleAppIDs []string

// UnmarshalJSON replaces the list with a newly allocated list.
func (a *AppleAppIDs) UnmarshalJSON(b []byte) error {
	return renew(b, (*[]string)(a), "apple_app_ids: want a list of texts")
}

var appleAppID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9A-Z]{10}\.[0-9A-Za-z.-]{1,155}$`)
})

func (a AppleAppIDs) validate() error {
	if len(a) > maxApps {
		return fmt.Errorf("settings: apple_app_ids has %d entries: want at most %d", len(a), maxApps)
	}
	for _, id := range a {
		if !appleAppID().MatchString(id) {
			return fmt.Errorf(
				"settings: apple_app_ids has %.60q: want ten characters, a dot and the bundle identifier, such as ABCDE12345.com.example.app", id)
		}
	}
	return nil
}

// AndroidApp is one Android app and the certificates that sign it.
type AndroidApp struct {
	Package      string   `json:"package"`
	Fingerprints []string `json:"sha256_cert_fingerprints"` // each 32 bytes, as hexadecimal digit pairs separated by colons
}

// AndroidApps is a list of Android apps.
type AndroidApps []AndroidApp

// UnmarshalJSON replaces the list with a newly allocated list, because the old list may be in use.
func (a *AndroidApps) UnmarshalJSON(b []byte) error {
	if unsaid(b) {
		return nil
	}
	err := renew(b, (*[]AndroidApp)(a), "android_apps: want a list of objects with package and sha256_cert_fingerprints")
	if err == nil {
		for _, app := range *a {
			for i, text := range app.Fingerprints {
				app.Fingerprints[i] = strings.ToUpper(text)
			}
		}
	}
	return err
}

var (
	androidPackage     = regexp.MustCompile(`^[A-Za-z][0-9A-Za-z_]*(\.[A-Za-z][0-9A-Za-z_]*)+$`)
	androidFingerprint = regexp.MustCompile(`^[0-9A-F]{2}(:[0-9A-F]{2}){31}$`)
)

func (a AndroidApps) validate() error {
	if len(a) > maxApps {
		return fmt.Errorf("settings: android_apps has %d entries: want at most %d", len(a), maxApps)
	}
	for _, app := range a {
		if len(app.Package) > 255 || !androidPackage.MatchString(app.Package) {
			return fmt.Errorf("settings: android_apps has the package %.60q: want a name such as com.example.app", app.Package)
		}
		if len(app.Fingerprints) == 0 || len(app.Fingerprints) > 16 {
			return fmt.Errorf("settings: android_apps: %s has %d fingerprints: want 1 to 16", app.Package, len(app.Fingerprints))
		}
		for _, text := range app.Fingerprints {
			if !androidFingerprint.MatchString(text) {
				return fmt.Errorf("settings: android_apps: %s has the fingerprint %.100q: want 32 bytes such as 14:6D:E9:…", app.Package,
					text)
			}
		}
	}
	return nil
}

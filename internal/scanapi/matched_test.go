package scanapi

import (
	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/scan"
)

func fuzzedVersion(text string) accounts.Version { return accounts.Version(text) }

func setPrefix(d *scan.Decision, prefix string) { d.Matched.Prefix = prefix }

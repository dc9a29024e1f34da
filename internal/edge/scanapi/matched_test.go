package scanapi

import (
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

func fuzzedVersion(text string) accounts.Version { return accounts.Version(text) }

func setPrefix(d *scan.Decision, prefix string) { d.Matched.Prefix = prefix }

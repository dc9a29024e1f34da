package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bill writes the list of parts of a program (CycloneDX), from what the finished
// binary says of itself.
func (p *program) bill(out string) error {
	binary, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(binary)
	main := cdx.Component{BOMRef: "qrjump", Type: cdx.ComponentTypeApplication, Name: "qrjump", Version: p.number,
		PackageURL: "pkg:golang/" + p.info.Main.Path + "@v" + p.number, Licenses: licenceChoice("Apache-2.0"),
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Properties: &[]cdx.Property{{Name: "qrjump:commit", Value: p.commit}, {Name: "qrjump:platform", Value: p.os + "/" + p.arch}}}
	var parts []cdx.Component
	var refs []string
	for _, l := range p.licences {
		// A NOASSERTION would be no answer to a reader who asks what he may do.
		if l.id == "" {
			return fmt.Errorf("%s %s: its licence is none that the list of parts can name", l.module, l.version)
		}
		ref := "pkg:golang/" + l.module + "@" + l.version
		c := cdx.Component{BOMRef: ref, Type: cdx.ComponentTypeLibrary, Name: l.module, Version: l.version, PackageURL: ref,
			Licenses: licenceChoice(l.id)}
		if l.sum != "" {
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: l.sum}}
		}
		parts, refs = append(parts, c), append(refs, ref)
	}
	b := cdx.NewBOM()
	// The same binary has the same number, a UUID made of its sum.
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	b.SerialNumber = fmt.Sprintf("urn:uuid:%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
	b.Metadata = &cdx.Metadata{Timestamp: p.stamp(), Component: &main}
	b.Components, b.Dependencies = &parts, &[]cdx.Dependency{{Ref: "qrjump", Dependencies: &refs}}
	var text bytes.Buffer
	if err := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).Encode(b); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, p.name()+".cdx.json"), text.Bytes(), 0o644)
}

func licenceChoice(id string) *cdx.Licenses {
	return &cdx.Licenses{{License: &cdx.License{ID: id}}}
}

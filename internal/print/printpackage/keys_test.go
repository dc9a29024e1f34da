package printpackage_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/qrjump/qrjump/internal/print/printpackage"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestParseSigners_PackageNamespace verifies that a signer of allowed_signers with another principal or namespace cannot sign packages.
func TestParseSigners_PackageNamespace(t *testing.T) {
	signer := require.Value(printpackage.NewSigner(make([]byte, 32)))(t)
	signature := require.Value(signer.Sign([]byte("manifest")))(t)
	verify := func(allowedSigners string) error {
		signers, err := printpackage.ParseSigners([]byte(allowedSigners))
		if err != nil {
			return err
		}
		return signers.Verify([]byte("manifest"), signature)
	}
	key := signer.PublicKey()
	for line, trusted := range map[string]bool{signer.AllowedSigners(): true, key + " comment": true, "# x\n\nqrjump " + key: true,
		"alice@example.com " + key: false, `qrjump namespaces="git" ` + key: false, `qrjump cert-authority ` + key: false,
		`qrjump valid-before="20200101",namespaces="qrjump-package" ` + key: false, `namespaces="git" ` + key: false, "": false} {
		err := verify(line)
		assert.True(t, (err == nil) == trusted, "Verify with %q: %v, want success %t", line, err, trusted)
	}
	stranger := require.Value(printpackage.NewSigner([]byte(strings.Repeat("k", 32))))(t)
	assert.ErrorIs(t, verify(stranger.AllowedSigners()), printpackage.ErrSignature, "Verify with another signer")
}

// TestPrintPackage_RejectsMixedRecipients verifies that Recipients rejects classic and hybrid keys in one package, which age cannot
// encrypt.
func TestPrintPackage_RejectsMixedRecipients(t *testing.T) {
	classic := require.Value(age.GenerateX25519Identity())(t)
	hybrid := require.Value(age.GenerateHybridIdentity())(t)
	classicKey, hybridKey := classic.Recipient().String(), hybrid.Recipient().String()
	for _, c := range []struct {
		keys []string
		good bool
	}{{[]string{classicKey, classicKey}, true}, {[]string{hybridKey}, true}, {[]string{classicKey, hybridKey}, false}, {nil, false}} {
		_, err := printpackage.Recipients(c.keys)
		assert.True(t, (err == nil) == c.good, "Recipients of %d keys: %v, want success %t", len(c.keys), err, c.good)
	}
}

// TestLineFile_RejectsInvalidNumbers verifies that ReadLine rejects invalid numbers in a header, which may come from an attacker.
func TestLineFile_RejectsInvalidNumbers(t *testing.T) {
	for _, numbers := range []string{`"from":0,"to":9223372036854775806,"proofs":9223372036854775807`, `"from":0,"to":9223372036854775807`,
		`"from":0,"to":0,"proofs":9223372036854775807`, `"from":0,"to":100000000`, `"from":5,"to":4`, `"from":0,"to":1,"spare":2`} {
		head := fmt.Sprintf("{\"format\":%q,%s,\"salt\":\"00\"}\n", printpackage.LineFormat, numbers)
		sum := sha256.Sum256([]byte(head))
		assert.True(t, assert.ErrorOf(printpackage.ReadLine(strings.NewReader(head+string(sum[:])))) != nil,
			"ReadLine with %s succeeded, want an error", numbers)
	}
}

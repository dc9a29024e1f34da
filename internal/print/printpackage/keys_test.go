package printpackage_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/qrjump/qrjump/internal/print/printpackage"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Whom a file of allowed_signers believes for something else signs no package.
func TestParseSigners_PackageNamespace(t *testing.T) {
	signer, err := printpackage.NewSigner(make([]byte, 32))
	require.NoError(t, err)
	signature, err := signer.Sign([]byte("manifest"))
	require.NoError(t, err)
	key := signer.PublicKey()
	for line, believed := range map[string]bool{signer.AllowedSigners(): true, key + " comment": true, "# x\n\nqrjump " + key: true,
		"alice@example.com " + key: false, `qrjump namespaces="git" ` + key: false, `qrjump cert-authority ` + key: false,
		`qrjump valid-before="20200101",namespaces="qrjump-package" ` + key: false, `namespaces="git" ` + key: false, "": false} {
		all, err := printpackage.ParseSigners([]byte(line))
		if err == nil {
			err = all.Verify([]byte("manifest"), signature)
		}
		assert.True(t, (err == nil) == believed, "%q: %v", line, err)
	}
	other, err := printpackage.NewSigner([]byte(strings.Repeat("k", 32)))
	require.NoError(t, err)
	all, err := printpackage.ParseSigners([]byte(other.AllowedSigners()))
	if err == nil {
		err = all.Verify([]byte("manifest"), signature)
	}
	assert.True(t, errors.Is(err, printpackage.ErrSignature), "another signer's: %v", err)
}

// What cannot be downloaded is not made.
func TestPrintPackage_RejectsMixedRecipients(t *testing.T) {
	classic, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	hybrid, err := age.GenerateHybridIdentity()
	require.NoError(t, err)
	one, two := classic.Recipient().String(), hybrid.Recipient().String()
	for _, c := range []struct {
		keys []string
		good bool
	}{{[]string{one, one}, true}, {[]string{two}, true}, {[]string{one, two}, false}, {nil, false}} {
		_, err := printpackage.Recipients(c.keys)
		assert.True(t, (err == nil) == c.good, "%d keys: %v", len(c.keys), err)
	}
}

// The numbers of a header may be any that a stranger writes.
func TestLineFile_RejectsInvalidNumbers(t *testing.T) {
	for _, numbers := range []string{`"from":0,"to":9223372036854775806,"proofs":9223372036854775807`, `"from":0,"to":9223372036854775807`,
		`"from":0,"to":0,"proofs":9223372036854775807`, `"from":0,"to":100000000`, `"from":5,"to":4`, `"from":0,"to":1,"spare":2`} {
		head := fmt.Sprintf("{\"format\":%q,%s,\"salt\":\"00\"}\n", printpackage.LineFormat, numbers)
		sum := sha256.Sum256([]byte(head))
		assert.True(t, assert.ErrorOf(printpackage.ReadLine(strings.NewReader(head+string(sum[:])))) != nil, "%s: taken", numbers)
	}
}

//go:build unix

package codes

import (
	"crypto/aes"
	"crypto/cipher"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// BenchmarkSegment compares a segment of 50,000 codes with AES-128-CBC of as many bytes, one after the other in each round: CPU time as the
// operating system counts it, and wall time, as ratios. A neighbour on the machine disturbs the wall, so -cpu 2 says something on two idle
// cores only.
func BenchmarkSegment(b *testing.B) {
	p := testRange(b, 0, 49_999)
	c, _ := aes.NewCipher(testPackageKey[:])
	plain := make([]byte, rowsSize(p)/16*16)
	took := func(f func()) (cpu, wall float64) {
		var before, after syscall.Rusage
		start := time.Now()
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
		f()
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
		nanos := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		return float64(nanos), float64(time.Since(start).Nanoseconds())
	}
	for i := range plain {
		plain[i] = '0' // so that the first round does not pay for fresh pages
	}
	var cpu, wall []float64
	for b.Loop() {
		plainCPU, plainWall := took(func() { cipher.NewCBCEncrypter(c, testPackageKey[:]).CryptBlocks(plain, plain) })
		packageCPU, packageWall := took(func() { require.NoError(b, WritePackage(b.Context(), io.Discard, p, testPackageKey)) })
		cpu, wall = append(cpu, packageCPU/plainCPU), append(wall, packageWall/plainWall)
	}
	for unit, ratios := range map[string][]float64{"cpu": cpu, "wall": wall} {
		slices.Sort(ratios)
		b.ReportMetric(ratios[0], unit+"-min")
		b.ReportMetric(ratios[len(ratios)/2], unit+"-median")
		b.ReportMetric(ratios[len(ratios)-1], unit+"-max")
	}
}

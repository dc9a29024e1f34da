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

// BenchmarkSegment reports the CPU time and the wall time of a package of 50,000 codes as ratios to AES-128-CBC of the same number of
// bytes. Each round measures both. Other processes disturb the wall time, so -cpu 2 needs two idle cores.
func BenchmarkSegment(b *testing.B) {
	p := testRange(b, 0, 49_999)
	c, _ := aes.NewCipher(testPackageKey[:])
	plain := make([]byte, rowsSize(p)/16*16)
	measure := func(f func()) (cpu, wall float64) {
		var before, after syscall.Rusage
		start := time.Now()
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
		f()
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
		nanos := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		return float64(nanos), float64(time.Since(start).Nanoseconds())
	}
	for i := range plain {
		plain[i] = '0' // touches the pages before the first round
	}
	var cpu, wall []float64
	for b.Loop() {
		plainCPU, plainWall := measure(func() { cipher.NewCBCEncrypter(c, testPackageKey[:]).CryptBlocks(plain, plain) })
		packageCPU, packageWall := measure(func() { require.NoError(b, WritePackage(b.Context(), io.Discard, p, testPackageKey)) })
		cpu, wall = append(cpu, packageCPU/plainCPU), append(wall, packageWall/plainWall)
	}
	for unit, ratios := range map[string][]float64{"cpu": cpu, "wall": wall} {
		slices.Sort(ratios)
		b.ReportMetric(ratios[0], unit+"-min")
		b.ReportMetric(ratios[len(ratios)/2], unit+"-median")
		b.ReportMetric(ratios[len(ratios)-1], unit+"-max")
	}
}

package codes

import (
	"context"
	"fmt"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Serial is the brand's own serial number for a code, such as the number printed on a bottle.
type Serial struct {
	Index  int64
	Serial string
}

// MaxSerials is the maximum number of serial numbers in one call; a call stores all or none.
const MaxSerials = 10_000

// maxSerial is the maximum number of characters of a serial number.
const maxSerial = 128

// BindSerials assigns serial numbers to codes of a batch. Repeating a call changes nothing. BindSerials returns the number of changed
// codes. BindSerials returns 40097 or 80306 for invalid parameters, or a Conflict. A Conflict means that another code has the serial
// number, or that the code has a different serial number and replace is false.
func (s *Service) BindSerials(ctx context.Context, batch int64, serials []Serial, replace bool) (changed int64, err error) {
	b, err := s.Memory.BatchOrLoad(ctx, batch)
	if err != nil {
		return 0, err
	}
	if len(serials) == 0 || len(serials) > MaxSerials {
		return 0, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "%d serial numbers: want 1 to %d", len(serials), MaxSerials)
	}
	indexes, numbers := make([]int64, len(serials)), make([]string, len(serials))
	seen, seenNumbers := map[int64]bool{}, map[string]bool{}
	for i, serial := range serials {
		if err := b.CheckRange(Range{serial.Index, serial.Index}); err != nil {
			return 0, err
		}
		if !accounts.IsPlain(serial.Serial, 1, maxSerial) {
			return 0, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "serials[%d]: want 1 to %d characters, none of them a control character", i,
				maxSerial)
		}
		if seen[serial.Index] || seenNumbers[serial.Serial] {
			return 0, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "serials[%d]: the code %d or its serial number occurs twice", i,
				serial.Index)
		}
		indexes[i], numbers[i] = serial.Index, serial.Serial
		seen[serial.Index], seenNumbers[serial.Serial] = true, true
	}
	err = s.Store.UpdateCodes(ctx, func(tx Tx) error {
		changed = 0
		if err := tx.LockBatch(ctx, batch); err != nil {
			return err
		}
		have, err := tx.Serials(ctx, batch, indexes)
		if err != nil {
			return err
		}
		taken, err := tx.SerialsByNumber(ctx, batch, numbers)
		if err != nil {
			return err
		}
		var newSerials []Serial
		for _, serial := range serials {
			previous, bound := have[serial.Index]
			switch second, isTaken := taken[serial.Serial]; {
			case bound && previous == serial.Serial:
				continue
			case bound && !replace:
				return Conflict(fmt.Sprintf("code %d already has another serial number: set replace to change it", serial.Index))
			case isTaken && second != serial.Index:
				return Conflict(fmt.Sprintf("code %d has the serial number of code %d", serial.Index, second))
			}
			newSerials = append(newSerials, serial)
		}
		if changed = int64(len(newSerials)); changed == 0 {
			return nil
		}
		return tx.PutSerials(ctx, batch, newSerials)
	})
	return changed, err
}

// Serials returns the serial numbers of the given codes of a batch, by index; codes without a serial number are absent.
func (s *Service) Serials(ctx context.Context, batch int64, indexes ...int64) (map[int64]string, error) {
	return accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) (map[int64]string, error) { return tx.Serials(ctx, batch, indexes) })
}

// SearchSerials returns at most limit codes of the given batches whose serial number begins with part.
func (s *Service) SearchSerials(ctx context.Context, batches []int64, part string, limit int) ([]SerialOf, error) {
	return accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) ([]SerialOf, error) {
		return tx.SerialsBeginning(ctx, batches, part, limit)
	})
}

// SerialOf is a serial number with the batch and index of its code.
type SerialOf struct {
	Batch int64
	Serial
}

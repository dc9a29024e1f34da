package accounts

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
)

// QRAction says whether a parametric code is temporary or permanent, and whether its scene is a number or a string. Contract: rules §3.5.
type QRAction string

// The actions.
const (
	QRNumber         QRAction = "QR_SCENE"
	QRText           QRAction = "QR_STR_SCENE"
	QRNumberForEver  QRAction = "QR_LIMIT_SCENE"
	QRTextForEver    QRAction = "QR_LIMIT_STR_SCENE"
	maxNumber                 = 1<<32 - 1
	maxNumberForEver          = 100_000
	maxSceneText              = 64
)

// Permanent reports whether codes of this action never expire.
func (a QRAction) Permanent() bool { return a == QRNumberForEver || a == QRTextForEver }

// The lifetimes of a temporary code. Contract: rules §3.5.
const (
	DefaultQRLife = 30 * time.Second
	MaxQRLife     = 30 * 24 * time.Hour
	// qrMemory is the time for which an expired code stays stored.
	qrMemory = 24 * time.Hour
)

// QRStart is the prefix of the content of every parametric code.
const QRStart = "http://weixin.qq.com/q/"

// QRCode is a parametric code of a service account.
type QRCode struct {
	Code      string // the part of the URL after QRStart
	Ticket    string
	Account   string
	Action    QRAction
	Scene     string
	CreatedAt time.Time
	ExpiresAt time.Time // zero = never
}

// URL returns the text that the QR code contains.
func (q QRCode) URL() string { return QRStart + q.Code }

// Permanent reports whether the code never expires.
func (q QRCode) Permanent() bool { return q.ExpiresAt.IsZero() }

// Works reports whether the code has not expired at time now.
func (q QRCode) Works(now time.Time) bool { return q.Permanent() || now.Before(q.ExpiresAt) }

// ErrNoQRCode is returned by the store if a parametric code does not exist; clients of the platform API never see it.
var ErrNoQRCode = errors.New("accounts: no such parametric code")

// QRCodeTx is the part of a transaction that stores parametric codes.
type QRCodeTx interface {
	// QRCode, QRCodeByTicket and PermanentQRCode return ErrNoQRCode if the code does not exist.
	QRCode(ctx context.Context, code string) (QRCode, error)
	QRCodeByTicket(ctx context.Context, ticket string) (QRCode, error)
	PermanentQRCode(ctx context.Context, account string, action QRAction, scene string) (QRCode, error)
	CountPermanentQRCodes(ctx context.Context, account string) (int, error)
	AddQRCode(ctx context.Context, q QRCode) error
	// ForgetQRCodes deletes the codes of an account that expired before the given time.
	ForgetQRCodes(ctx context.Context, account string, before time.Time) error
}

// QRDraft contains the parameters of a request to create a parametric code.
type QRDraft struct {
	Action QRAction
	// ID and Text are the scene; nil = absent from the request.
	ID   *int
	Text *string
	// Life is the requested lifetime in seconds; nil = absent from the request. A permanent code has no lifetime.
	Life *int
}

// code returns the parametric code for the parameters in d. code returns 40052 for an unknown action, 40053 for a scene that does not fit
// the action, and 40097 for a lifetime out of range.
func (d QRDraft) code(now time.Time) (QRCode, error) {
	q := QRCode{Action: d.Action, CreatedAt: now}
	limit := 0
	switch d.Action {
	case QRNumber:
		limit = maxNumber
	case QRNumberForEver:
		limit = maxNumberForEver
	case QRText, QRTextForEver:
	default:
		return q, errcode.InvalidActionName.WithDetail(behaviour.QRCodeAction, "action_name is %.40q", string(d.Action))
	}
	switch {
	case limit > 0 && d.ID == nil:
		return q, errcode.InvalidActionInfo.WithDetail(behaviour.QRCodeInfo, "%s needs action_info.scene.scene_id", d.Action)
	case limit > 0 && (*d.ID < 1 || *d.ID > limit):
		return q, errcode.InvalidActionInfo.WithDetail(behaviour.QRCodeInfo, "scene_id is %d: want 1 to %d", *d.ID, limit)
	case limit > 0:
		q.Scene = strconv.Itoa(*d.ID)
	case d.Text == nil:
		return q, errcode.InvalidActionInfo.WithDetail(behaviour.QRCodeInfo, "%s needs action_info.scene.scene_str", d.Action)
	case !sceneText(*d.Text):
		return q, errcode.InvalidActionInfo.WithDetail(behaviour.QRCodeInfo,
			"scene_str: want 1 to %d characters, none of them a control character", maxSceneText)
	default:
		q.Scene = *d.Text
	}
	if d.Action.Permanent() {
		return q, nil // a permanent code has no lifetime, even if the request names one
	}
	life := DefaultQRLife
	if d.Life != nil {
		// Assumed(qrcode.life): a lifetime out of range is an error, because a silently shortened lifetime would surprise the users
		// of the code.
		if maximum := int(MaxQRLife / time.Second); *d.Life < 1 || *d.Life > maximum {
			return q, errcode.InvalidArgs.WithDetail(behaviour.QRCodeLife, "expire_seconds is %d: want 1 to %d", *d.Life, maximum)
		}
		life = time.Duration(*d.Life) * time.Second
	}
	q.ExpiresAt = now.Add(life)
	return q, nil
}

// sceneText reports whether s is a valid scene. The scene is later sent in an XML event, and XML cannot represent every character.
func sceneText(s string) bool {
	n := utf8.RuneCountInString(s)
	return utf8.ValidString(s) && n >= 1 && n <= maxSceneText && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF
	})
}

// draw generates the random parts of a code: its text and its ticket.
func (q *QRCode) draw(random io.Reader) error {
	var raw [19]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return fmt.Errorf("generating a parametric code: %w", err)
	}
	q.Code = "02" + base64.RawURLEncoding.EncodeToString(raw[:15])
	q.Ticket = q.ticket([4]byte(raw[15:]))
	return nil
}

// ticket returns a ticket in the format of the Weixin platform: a header, the URL, the time of creation and the time of expiry.
// Assumed(qrcode.ticket): the ticket is URL-safe Base64 without padding, so that it survives clients that do not percent-encode it
// (clients, showqrcode).
func (q QRCode) ticket(nonce [4]byte) string {
	b := append([]byte{0x81, 0x01}, nonce[:]...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0x01, byte(len(q.URL())))
	b = append(b, q.URL()...)
	b = binary.LittleEndian.AppendUint32(append(b, 0x00, 0x02, 0x04), uint32(q.CreatedAt.Unix()))
	b = append(b, 0x03, 0x04)
	if q.Permanent() {
		return base64.RawURLEncoding.EncodeToString(append(b, 0, 0, 0, 0))
	}
	return base64.RawURLEncoding.EncodeToString(binary.LittleEndian.AppendUint32(b, uint32(q.ExpiresAt.Unix())))
}

// CreateQRCode creates a parametric code. If the same permanent code already exists, CreateQRCode returns the existing code. CreateQRCode
// returns 40052 for an unknown action, 40053 for an invalid scene, 40097 for a lifetime out of range, and 48001 if the caller is not a
// certified service account. Contract: rules §3.5. Inferred(qrcode.limit): CreateQRCode returns 45029 above the limit of permanent codes.
func (d *Service) CreateQRCode(ctx context.Context, caller Account, draft QRDraft) (QRCode, error) {
	fresh, err := draft.code(d.Now())
	if err != nil {
		return QRCode{}, err
	}
	if err := caller.MayMakeQRCodes(); err != nil {
		return QRCode{}, err
	}
	fresh.Account = caller.AppID
	if err := fresh.draw(d.Random); err != nil {
		return QRCode{}, err
	}
	made := fresh
	if !fresh.Permanent() {
		err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
			if _, err := Keep(ctx, tx, caller.AppID); err != nil {
				return err
			}
			if d.canDeleteExpired() {
				if err := tx.ForgetQRCodes(ctx, caller.AppID, fresh.CreatedAt.Add(-qrMemory)); err != nil {
					return err
				}
			}
			return tx.AddQRCode(ctx, fresh)
		})
		return made, err
	}
	have := func(tx Tx) (err error) {
		made, err = tx.PermanentQRCode(ctx, caller.AppID, fresh.Action, fresh.Scene)
		return err
	}
	// A read-only transaction finds an existing code, because it does not wait for the single writer of SQLite, unlike a write transaction.
	if err := d.Store.ViewAccounts(ctx, have); !errors.Is(err, ErrNoQRCode) {
		return made, err
	}
	err = d.inAccount(ctx, caller.AppID, func(tx Tx) error {
		if _, err := Keep(ctx, tx, caller.AppID); err != nil {
			return err
		}
		if err := have(tx); !errors.Is(err, ErrNoQRCode) {
			return err
		}
		n, err := tx.CountPermanentQRCodes(ctx, caller.AppID)
		if err != nil {
			return err
		}
		s := d.Settings.Get()
		if row := s.Exceeds(ctx, n+1, s.QRCodeLimit, settings.Platform.QRCodeLimit, behaviour.QRCodeLimit); row != behaviour.NoRow {
			return errcode.QRCodeLimit.WithDetail(row, "%s has %d permanent codes already", caller.AppID, n)
		}
		made = fresh
		return tx.AddQRCode(ctx, fresh)
	})
	return made, err
}

// QRCodeByTicket returns the code with the given ticket, or ErrNoQRCode if there is no such code or the code has expired.
func (d *Service) QRCodeByTicket(ctx context.Context, ticket string) (QRCode, error) {
	q, err := Transact(ctx, d.Store.ViewAccounts, func(tx Tx) (QRCode, error) { return tx.QRCodeByTicket(ctx, ticket) })
	if err == nil && !q.Works(d.Now()) {
		err = ErrNoQRCode
	}
	return q, err
}

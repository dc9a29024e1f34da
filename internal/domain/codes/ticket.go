package codes

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// loginLife is the lifetime of a js_code.
const loginLife = 5 * time.Minute

// maxTicket is the maximum length in bytes of a code_ticket. Contract: marketcode §3.6.
const maxTicket = 256

// Ticket is the proof that a user scanned a code, as stored: its text is stored only as a keyed hash.
type Ticket struct {
	Hash      string
	Batch     int64
	Index     int64
	OwnerID   string // the user's openid for the service account
	AppID     string // the Mini Program that the scan opened
	AppUserID string // the user's openid for the Mini Program
	ScannedAt time.Time
	ExpiresAt time.Time
}

// The error texts for an invalid openid and an invalid ticket, as observed on the Weixin platform. Contract: marketcode §1.1.
const (
	badOpenID = "openid invalid"
	badTicket = "无效的code_ticket或与openid不对应"
)

// An openid has openIDLength characters, each of openIDSymbols.
const (
	openIDLength  = 28
	openIDSymbols = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-"
)

// checkExchange returns 40097 for a malformed openid or ticket.
func checkExchange(openid, ticket string) error {
	switch {
	case len(openid) != openIDLength || !allOf(openid, openIDSymbols):
		return errcode.InvalidArgs.WithDetail(behaviour.CodesTicketOpenID, badOpenID)
	case ticket == "" || len(ticket) > maxTicket:
		return errcode.InvalidArgs.WithDetail(behaviour.CodesTicketBad, badTicket)
	}
	return nil
}

// CheckUser returns 40097 if the ticket has expired, or if openid is not the scanning user's openid for the service account or for the Mini
// Program. A ticket can be used any number of times until it expires. Contract: marketcode §3.6.
func (t Ticket) CheckUser(openid string, now time.Time) error {
	if !now.Before(t.ExpiresAt) || accounts.IssuedInFuture(t.ScannedAt, now) {
		return errcode.InvalidArgs.WithDetail(behaviour.CodesTicketOver, badTicket)
	}
	if openid != t.OwnerID && openid != t.AppUserID {
		return errcode.InvalidArgs.WithDetail(behaviour.CodesTicketBad, badTicket)
	}
	return nil
}

// Login is a js_code as stored.
type Login struct {
	Hash      string
	AppID     string
	OpenID    string
	UnionID   string // "" = the account is bound to no open-platform account
	ExpiresAt time.Time
	Used      bool
}

// isValid reports whether the js_code is within its lifetime.
func (l Login) isValid(now time.Time) bool {
	return now.Before(l.ExpiresAt) && !accounts.IssuedInFuture(l.ExpiresAt.Add(-loginLife), now)
}

// newTicketText returns 128 random bits as 32 lower-case hexadecimal digits.
func newTicketText(random io.Reader) (string, error) {
	var raw [16]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", fmt.Errorf("generating a ticket: %w", err)
	}
	return hex.EncodeToString(raw[:]), nil
}

// maxCachedTickets is the number of tickets that a node caches, about 160 bytes each.
const maxCachedTickets = 1 << 17

// ticketCache caches the most recent tickets; other tickets may exist in the store. The rows contain no pointers, so the garbage
// collector does not scan them. The zero value of ticketCache is an empty cache.
type ticketCache struct {
	mu        sync.RWMutex
	ringIndex map[uint64]int32 // index in ring, by the first bytes of the hash
	ring      []ticketRow
	next      int
	apps      []string         // the AppIDs that rows refer to
	appIndex  map[string]int32 // index in apps
}

// ticketRow is a Ticket in compact form.
type ticketRow struct {
	hash                           [sha256.Size]byte
	batch, index, scanned, expires int64 // times in Unix milliseconds, as in the store
	owner, user                    [openIDLength]byte
	app                            int32
}

func (r *ticketRow) key() uint64 { return binary.LittleEndian.Uint64(r.hash[:]) }

func (r *ticketCache) get(hash [sha256.Size]byte) (Ticket, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	pos, ok := r.ringIndex[binary.LittleEndian.Uint64(hash[:])]
	if !ok || r.ring[pos].hash != hash {
		return Ticket{}, false
	}
	row := &r.ring[pos]
	return Ticket{Hash: hex.EncodeToString(hash[:]), Batch: row.batch, Index: row.index, OwnerID: string(row.owner[:]),
		AppID:     r.apps[row.app],
		AppUserID: string(row.user[:]), ScannedAt: time.UnixMilli(row.scanned).UTC(), ExpiresAt: time.UnixMilli(row.expires).UTC()}, true
}

func (r *ticketCache) add(t Ticket) {
	row := ticketRow{batch: t.Batch, index: t.Index, scanned: t.ScannedAt.UnixMilli(), expires: t.ExpiresAt.UnixMilli()}
	n, err := hex.Decode(row.hash[:], []byte(t.Hash)[:min(len(t.Hash), 2*len(row.hash))])
	if err != nil || n != len(row.hash) || len(t.OwnerID) != openIDLength || len(t.AppUserID) != openIDLength {
		return // a ticket that does not fit into a row of the cache is only in the store
	}
	copy(row.owner[:], t.OwnerID)
	copy(row.user[:], t.AppUserID)
	r.mu.Lock()
	defer r.mu.Unlock()
	if pos, known := r.ringIndex[row.key()]; known && r.ring[pos].hash == row.hash {
		return
	}
	if r.ringIndex == nil {
		r.ringIndex, r.appIndex = map[uint64]int32{}, map[string]int32{}
	}
	var known bool
	if row.app, known = r.appIndex[t.AppID]; !known {
		row.app = int32(len(r.apps))
		r.apps = append(r.apps, t.AppID)
		r.appIndex[t.AppID] = row.app
	}
	pos := int32(len(r.ring))
	if len(r.ring) < maxCachedTickets {
		r.ring = append(r.ring, row)
	} else {
		pos = int32(r.next)
		if old := r.ring[pos].key(); r.ringIndex[old] == pos {
			delete(r.ringIndex, old)
		}
		r.ring[pos] = row
		r.next = (r.next + 1) % maxCachedTickets
	}
	r.ringIndex[row.key()] = pos
}

func (r *ticketCache) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ringIndex, r.ring, r.next, r.apps, r.appIndex = nil, nil, 0, nil, nil
}

// Exchange returns the code that a user scanned, identified by the user's ticket. Exchange returns 40097 with the error texts of the
// Weixin platform. Contract: marketcode §3.6. In a call without a token, which a setting can allow, caller is zero and the ticket alone
// identifies the account.
func (s *Service) Exchange(ctx context.Context, caller accounts.Account, openid, ticket string) (Found, error) {
	anyAccount := caller.AppID == ""
	if err := CheckPermission(caller); err != nil && !anyAccount {
		return Found{}, err
	}
	if err := checkExchange(openid, ticket); err != nil {
		return Found{}, err
	}
	s.ticketHashOnce.Do(func() { s.ticketHasher = s.Vault.Hasher(ticketPurpose) })
	t, err := s.ticket(ctx, s.ticketHasher.Sum(ticket))
	if errors.Is(err, ErrNoTicket) {
		return Found{}, errcode.InvalidArgs.WithDetail(behaviour.CodesTicketBad, badTicket)
	}
	if err != nil {
		return Found{}, err
	}
	if err := t.CheckUser(openid, s.Now()); err != nil {
		return Found{}, err
	}
	b, err := s.Memory.BatchOrLoad(ctx, t.Batch)
	if err != nil && !errors.Is(err, ErrNoBatch) {
		return Found{}, err
	}
	if err != nil || b.Account != caller.AppID && !anyAccount {
		return Found{}, errcode.InvalidArgs.WithDetail(behaviour.CodesTicketOther, badTicket)
	}
	f, err := s.LookupConsistent(ctx, Found{Batch: b, Index: t.Index, State: s.Memory.State(b.ID, t.Index, s.Now())})
	if err != nil {
		return Found{}, err
	}
	if f.Code, err = s.codeOf(ctx, b, t.Index); err != nil {
		return Found{}, err
	}
	if f.State.Frozen || f.State.Void || f.State.Activation == nil {
		return Found{}, errcode.InvalidArgs.WithDetail(behaviour.CodesTicketState, badTicket)
	}
	return f, nil
}

const (
	ticketPurpose = "code_ticket"
	loginPurpose  = "js_code"
)

// ticketGrace and loginGrace are the times for which an expired ticket and an expired js_code stay stored. Even if the clock is up to a day
// ahead, no ticket is deleted before its expiry. A call with a deleted ticket receives the same error as one with an invented ticket.
const (
	ticketGrace = 24 * time.Hour
	loginGrace  = 24 * time.Hour
)

// newTicket returns a new ticket for a user's scan of a code, and the text of the ticket. TicketWriter stores the ticket before the text is
// returned to the client.
func (s *Service) newTicket(f Found, namespace, user string) (t Ticket, text string, err error) {
	if text, err = newTicketText(s.Random); err != nil {
		return t, "", err
	}
	now, app := s.Now(), f.State.Activation.Binding.WxaAppID
	life := time.Duration(s.Settings.Get().TicketTTLMinutes) * time.Minute
	return Ticket{Hash: s.Vault.Hash(ticketPurpose, text), Batch: f.Batch.ID, Index: f.Index,
		OwnerID: s.OpenIDs.OpenID(namespace, f.Batch.Account, user),
		AppID:   app, AppUserID: s.OpenIDs.OpenID(namespace, app, user), ScannedAt: now, ExpiresAt: now.Add(life)}, text, nil
}

// ticket returns a ticket by its hash: from the cache if this node created or read it before, otherwise from the store. A cached
// ticket is always up to date, because a ticket never changes and its expiry is checked against the clock. ErrNoTicket.
func (s *Service) ticket(ctx context.Context, hash [sha256.Size]byte) (t Ticket, err error) {
	if t, ok := s.ticketCache.get(hash); ok {
		return t, nil
	}
	t, err = accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) (Ticket, error) { return tx.Ticket(ctx, hex.EncodeToString(hash[:])) })
	if err == nil {
		s.ticketCache.add(t)
	}
	return t, err
}

// ClearTicketCache clears this node's ticket cache, after tickets were deleted from the store.
func (s *Service) ClearTicketCache() { s.ticketCache.clear() }

// Login creates a js_code, with which a Mini Program's server obtains a user's openid.
func (s *Service) Login(ctx context.Context, appid, namespace, user string) (string, error) {
	var raw [24]byte
	if _, err := io.ReadFull(s.Random, raw[:]); err != nil {
		return "", fmt.Errorf("generating a login code: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(raw[:])
	now := s.Now()
	deleteExpired := s.canDeleteExpired()
	return text, s.Store.UpdateCodes(ctx, func(tx Tx) error {
		if deleteExpired {
			// Each call deletes at most 100 expired js_codes, so that no call waits for the deletion of a whole day's js_codes.
			if _, err := tx.ForgetLogins(ctx, now.Add(-loginGrace), 100); err != nil {
				return err
			}
		}
		a, err := tx.Account(ctx, appid)
		if err != nil && !errors.Is(err, accounts.ErrNoAccount) {
			return err
		}
		return tx.PutLogin(ctx, Login{Hash: s.Vault.Hash(loginPurpose, text), AppID: appid,
			OpenID: s.OpenIDs.OpenID(namespace, appid, user), UnionID: s.OpenIDs.UnionID(namespace, a.OpenPlatform, user),
			ExpiresAt: now.Add(loginLife)})
	})
}

// ExchangeLoginCode implements /sns/jscode2session after the account check: it returns 40029 for a js_code that is unknown, expired
// or of another account, and 40163 for a used js_code.
func (s *Service) ExchangeLoginCode(ctx context.Context, appid, code string) (login Login, err error) {
	err = s.Store.UpdateCodes(ctx, func(tx Tx) error {
		// Two concurrent requests with the same js_code must not both succeed.
		if err := tx.LockAccount(ctx, appid); err != nil {
			return err
		}
		l, err := tx.Login(ctx, s.Vault.Hash(loginPurpose, code))
		switch {
		case errors.Is(err, ErrNoLogin) || err == nil && (l.AppID != appid || !l.isValid(s.Now())):
			return errcode.InvalidLoginCode.WithDetail(behaviour.LoginCodeUnknown,
				"the js_code is unknown, has expired, or belongs to another account")
		case err != nil:
			return err
		case l.Used:
			return errcode.LoginCodeUsed.WithDetail(behaviour.LoginCodeUsed, "the js_code was exchanged already")
		}
		l.Used, login = true, l
		return tx.PutLogin(ctx, l)
	})
	return login, err
}

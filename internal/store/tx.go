package store

import (
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Tx has the statements, locks and queued changes; the following types add the queries of the entities. Each type implements the Tx
// interfaces of domain packages, which document the methods, and embeds the type with the queries that it shares with other domains.
type (
	outboxQueries     struct{ *Tx }
	accountQueries    struct{ outboxQueries } // accounts, platforms, QR codes, counts of calls, and bulk imports
	ruleQueries       struct{ accountQueries }
	codeQueries       struct{ accountQueries }
	gs1Queries        struct{ accountQueries }
	brandingQueries   struct{ accountQueries }
	webhookQueries    struct{ outboxQueries }
	alarmQueries      struct{ *Tx }
	statisticsQueries struct{ alarmQueries }
	iamQueries        struct{ *Tx }
)

var (
	_ accounts.Tx    = accountQueries{}
	_ apiusage.Tx    = accountQueries{}
	_ rules.Tx       = ruleQueries{}
	_ codes.Tx       = codeQueries{}
	_ digitallink.Tx = gs1Queries{}
	_ branding.Tx    = brandingQueries{}
	_ webhooks.Tx    = webhookQueries{}
	_ outbox.Tx      = outboxQueries{}
	_ alarms.Tx      = alarmQueries{}
	_ stats.Tx       = statisticsQueries{}
	_ iam.Tx         = iamQueries{}
)

func (t *Tx) accounts() accountQueries      { return accountQueries{outboxQueries{t}} }
func (t *Tx) rules() ruleQueries            { return ruleQueries{t.accounts()} }
func (t *Tx) codes() codeQueries            { return codeQueries{t.accounts()} }
func (t *Tx) gs1() gs1Queries               { return gs1Queries{t.accounts()} }
func (t *Tx) branding() brandingQueries     { return brandingQueries{t.accounts()} }
func (t *Tx) webhooks() webhookQueries      { return webhookQueries{outboxQueries{t}} }
func (t *Tx) statistics() statisticsQueries { return statisticsQueries{alarmQueries{t}} }
func (t *Tx) iam() iamQueries               { return iamQueries{t} }

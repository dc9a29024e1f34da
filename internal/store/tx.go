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

// Tx has the statements, locks and queued changes; for each entity, a separate type wraps Tx and adds the queries of the entity. The
// transaction type of a domain embeds the types of its entities and implements the domain package's Tx, which documents the methods.
var (
	_ accounts.Tx    = accountsTx{}
	_ rules.Tx       = rulesTx{}
	_ codes.Tx       = codesTx{}
	_ stats.Tx       = statisticsTx{}
	_ alarms.Tx      = statisticsTx{}
	_ webhooks.Tx    = webhooksTx{}
	_ digitallink.Tx = gs1Tx{}
	_ branding.Tx    = brandingTx{}
	_ iam.Tx         = iamQueries{}
	_ apiusage.Tx    = accountsTx{}
	_ outbox.Tx      = webhooksTx{}
)

type (
	accountQueries    struct{ *Tx }
	componentQueries  struct{ *Tx }
	qrcodeQueries     struct{ *Tx }
	ruleQueries       struct{ *Tx }
	bulkQueries       struct{ *Tx }
	codeQueries       struct{ *Tx }
	alarmQueries      struct{ *Tx }
	statisticsQueries struct{ *Tx }
	webhookQueries    struct{ *Tx }
	outboxQueries     struct{ *Tx }
	iamQueries        struct{ *Tx }
	usageQueries      struct{ *Tx }
	gs1Queries        struct{ *Tx }
	brandingQueries   struct{ *Tx }
)

type accountsTx struct {
	*Tx
	accountQueries
	componentQueries
	qrcodeQueries
	bulkQueries
	outboxQueries
	usageQueries
}

func (t *Tx) accounts() accountsTx {
	return accountsTx{t, accountQueries{t}, componentQueries{t}, qrcodeQueries{t}, bulkQueries{t}, outboxQueries{t}, usageQueries{t}}
}

type rulesTx struct {
	*Tx
	ruleQueries
	bulkQueries
	accountQueries
	qrcodeQueries
	outboxQueries
}

func (t *Tx) rules() rulesTx {
	return rulesTx{t, ruleQueries{t}, bulkQueries{t}, accountQueries{t}, qrcodeQueries{t}, outboxQueries{t}}
}

type codesTx struct {
	*Tx
	codeQueries
	accountQueries
	usageQueries
}

func (t *Tx) codes() codesTx { return codesTx{t, codeQueries{t}, accountQueries{t}, usageQueries{t}} }

type statisticsTx struct {
	*Tx
	statisticsQueries
	alarmQueries
}

func (t *Tx) statistics() statisticsTx { return statisticsTx{t, statisticsQueries{t}, alarmQueries{t}} }

type webhooksTx struct {
	*Tx
	webhookQueries
	outboxQueries
}

func (t *Tx) webhooks() webhooksTx { return webhooksTx{t, webhookQueries{t}, outboxQueries{t}} }

type gs1Tx struct {
	*Tx
	gs1Queries
	accountQueries
}

func (t *Tx) gs1() gs1Tx { return gs1Tx{t, gs1Queries{t}, accountQueries{t}} }

type brandingTx struct {
	*Tx
	brandingQueries
	accountQueries
}

func (t *Tx) branding() brandingTx { return brandingTx{t, brandingQueries{t}, accountQueries{t}} }

func (t *Tx) iam() iamQueries { return iamQueries{t} }

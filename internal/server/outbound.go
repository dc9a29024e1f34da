package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/verification"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

// fetch downloads a verification file through the guarded HTTP client. Contract: rules §2.7.
func (s requests) fetch(ctx context.Context, url string, allowPrivate bool) ([]byte, []rules.FetchStep, error) {
	client := s.outbound
	client.AllowPrivate = allowPrivate
	client.Now = s.now
	answer, did, err := client.Do(ctx, safehttp.Request{
		Method: http.MethodGet, URL: url, Timeout: rules.ConfirmTimeout, MaxBody: rules.MaxConfirmBody,
	})
	steps := make([]rules.FetchStep, len(did))
	for i, step := range did {
		steps[i] = rules.FetchStep{OccurredAt: step.OccurredAt, Action: step.Action, Detail: step.Detail, Failed: step.Failed}
	}
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("the host answered status %d, want 200", answer.Status)
	}
	result := "ok"
	if err != nil {
		result = "failed"
		if e, ok := errors.AsType[*safehttp.Error](err); ok {
			result = string(e.Reason)
			err = fmt.Errorf("%s (%s)", e.Detail, e.Reason)
		}
		s.log.WarnContext(ctx, "verification file fetch failed", "url", url, "reason", result, "error", err)
	}
	s.metrics.confirms.WithLabelValues(result).Inc()
	return answer.Body, steps, err
}

// inspectFile fetches a verification file as an add operation does, and returns the result of each step.
func (s requests) inspectFile(ctx context.Context, url, content string) ([]verification.Step, error) {
	client := s.outboundNow()
	return verification.Walk(ctx, client, url, content)
}

// outboundClient returns the HTTP client that is copied for each outbound request.
func outboundClient(given *safehttp.Client) safehttp.Client {
	if given != nil {
		return *given
	}
	return safehttp.Client{Now: time.Now, UserAgent: "qrjump (verification file)"}
}

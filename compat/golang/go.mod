module github.com/qrjump/qrjump/compat/golang

go 1.26.0

replace github.com/qrjump/qrjump/compat => ../

require (
	github.com/chanxuehong/wechat v0.0.0-20251219080029-3ccc67d5e12d
	github.com/fastwego/miniprogram v1.0.0-beta.4
	github.com/fastwego/offiaccount v1.0.1
	github.com/go-resty/resty/v2 v2.17.2
	github.com/medivhzhan/weapp/v2 v2.5.0
	github.com/qrjump/qrjump/compat v0.0.0
	github.com/valyala/fasthttp v1.78.0
)

require (
	github.com/faabiosr/cachego v0.15.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/molecule-man/go-brrr v1.3.1 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

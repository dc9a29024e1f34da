#!/usr/bin/env bash
# Runs third-party client libraries against this qrjump. Each is in a separate module, so that a library that cannot be
# downloaded does not prevent the others from running.
#
# A library that cannot be downloaded from its registry is reported as "not run", with the reason: it has neither passed
# nor failed. This script fails only if a test fails or the server does not build.
#
# QRJUMP_URL is the URL of a running server (started with --dev and harness/seed.yaml), QRJUMP_BINARY a built server.
#
# The libraries wait most of the time, so several run concurrently, each with its own servers. The complete output of each
# library is printed in the order below. QRJUMP_AT_ONCE is the maximum number; with QRJUMP_URL they run one after the other.
set -u
cd "$(dirname "$0")" || exit 2

scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT

if [ -z "${QRJUMP_URL:-}" ] && [ -z "${QRJUMP_BINARY:-}" ]; then
	# Built once for all libraries. An error here is not an error of a library.
	if ! (cd .. && go build -o "$scratch/qrjump" ./cmd/qrjump); then
		echo "compat: the server does not build" >&2
		exit 1
	fi
	export QRJUMP_BINARY=$scratch/qrjump
fi

# bounded SECONDS COMMAND... runs a command with a timeout; without the program timeout, the command's own limits apply.
bounded() {
	local seconds=$1
	shift
	if command -v timeout >/dev/null; then
		timeout "$seconds" "$@"
	else
		"$@"
	fi
}

# fetch_go downloads the packages that the tests import. `go mod download` would also download modules that are only
# mentioned in go.mod files, and would fail if one of them is unavailable.
fetch_go() {
	bounded 600 go list -deps -test ./... >/dev/null
}

fetch_npm() {
	if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
		echo "node or npm is not installed" >&2
		return 1
	fi
	bounded 600 npm ci --ignore-scripts --no-audit --no-fund --prefer-offline --fetch-retries 1 --fetch-timeout 60000 >/dev/null
}

fetch_pip() {
	if ! command -v python3 >/dev/null || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
		echo "python3 with venv is not installed" >&2
		return 1
	fi
	[ -x .venv/bin/python ] && ! grep -vxFf <(.venv/bin/python -m pip freeze 2>/dev/null) requirements.txt >/dev/null && return
	rm -rf .venv
	python3 -m venv .venv && bounded 600 .venv/bin/python -m pip install -q --disable-pip-version-check --retries 1 -r requirements.txt >/dev/null
}

fetch_gs1() {
	fetch_npm && fetch_pip
}

fetch_mvn() {
	if ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then
		echo "javac or mvn is not installed" >&2
		return 1
	fi
	# Maven prints errors to standard output.
	bounded 600 mvn -B -q -ntp dependency:build-classpath -Dmdep.outputFile=target/classpath >&2
}

fetch_cargo() {
	if ! command -v cargo >/dev/null || ! command -v cc >/dev/null; then
		echo "cargo or cc is not installed" >&2
		return 1
	fi
	bounded 600 cargo build -q --locked
}

# fetch_distribution checks libraries that are packages of the distribution.
fetch_distribution() {
	local name missing=
	for name in curl wget php ruby perl; do command -v $name >/dev/null || missing+=" $name"; done
	for name in http faraday httparty rest-client excon httpclient typhoeus; do ruby -r$name -e 0 2>/dev/null || missing+=" ruby-$name"; done
	for name in LWP::Protocol::https Mojo::UserAgent IO::Socket::SSL; do perl -M$name -e 0 2>/dev/null || missing+=" $name"; done
	for name in Symfony/Component/HttpClient Symfony/Component/Cache Psr/SimpleCache Nyholm/Psr7 GuzzleHttp; do
		[ -f /usr/share/php/$name/autoload.php ] || missing+=" $name"
	done
	[ -z "$missing" ] || { echo "not installed:$missing" >&2 && return 1; }
}

# The linters are npm packages, the generator is a jar.
fetch_openapi() {
	if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
		echo "java or mvn is not installed" >&2
		return 1
	fi
	fetch_npm && bounded 600 mvn -B -q -ntp dependency:copy dependency:build-classpath -Dmdep.outputFile=target/classpath >&2
}

# Messages of a failed download that are caused by files of this repository (wrong checksums, a manifest that does not match
# its lock file, a missing package): these are failures and are not reported as "not run".
ours='go\.sum|updates to go\.mod|errors parsing go\.mod|checksum mismatch|SECURITY ERROR|does not contain package|no required module provides|is not in std|\.go:[0-9]+:[0-9]+: (expected|illegal)|EUSAGE|EINTEGRITY|EJSONPARSE'

# compared FOLDER LIBRARY prints how many recorded calls were compared with a fresh server; a difference fails the test.
compared() {
	[ -s "$scratch/$1.compared" ] || return 0
	awk -v library="$2" '{ compared += $1; calls += $3 }
		END { printf "  %s: %d of %d recorded calls compared with a fresh server, no difference\n", library, compared, calls }' \
		"$scratch/$1.compared"
}

# deviations FOLDER LIBRARY prints the deviations of the library's calls, those with the strongest evidence first.
deviations() {
	[ -s "$scratch/$1.deviations" ] || return 0
	echo
	echo "$2 has deviations; evidence that the platform rejects the call, number of calls, what to change:"
	awk -F '\t' '
		{ times[$1 FS $2 FS $5] += $3 }
		END {
			rank["observed"] = 1; rank["documented"] = 2; rank["inferred"] = 3; rank["assumed"] = 4
			for (key in times) { split(key, part, FS); printf "%d\t%s\t%s\t%d\t%s\n", rank[part[1]], part[1], part[2], times[key], part[3] }
		}' "$scratch/$1.deviations" | LC_ALL=C sort -t "$(printf '\t')" -k1,1n -k3,3 |
		awk -F '\t' '{ printf "  %-10s  %-26s  %5d  %s\n", $2, $3, $4, $5 }'
}

at_once=${QRJUMP_AT_ONCE:-3}
[ -z "${QRJUMP_URL:-}" ] || at_once=1
folders=()

# start FOLDER FETCH LIBRARY runs a library in the background, as soon as fewer than at_once are running.
start() {
	while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
	folders+=("$1")
	run "$@" >"$scratch/$1.says" 2>&1 &
}

# run FOLDER FETCH LIBRARY runs a library and writes one line to FOLDER.result.
run() {
	local folder=$1 fetch=$2 library=$3 result=$scratch/$1.result log=$scratch/$1.fetch cassettes=$scratch/$1.compared limit=30m status why
	[ "$folder" != gs1 ] || limit=2h # 100,000 texts, or as many as GS1_CASES says
	# Clients generated from qrjump's OpenAPI document and the snippets of the documents do not call the platform's API through a
	# recorder, so there are no calls to compare.
	case $folder in typescript | python | openapi | lake | wechatpy | wxjava | zpl | zxing | gs1 | axios | golang | distribution | rust | jest | pytest) cassettes= ;; esac
	echo "== $library"
	(cd "$folder" && "$fetch") 2>"$log"
	status=$?
	if [ $status -ne 0 ]; then
		if grep -Eq "$ours" "$log"; then
			cat "$log"
			echo "failed:  $library: its files in this repository are inconsistent" >"$result"
			return
		fi
		if [ $status -eq 124 ]; then
			why="the fetch took too long"
		else
			why=$(grep -Ev '^(go: downloading|npm (warn|notice)|npm error A complete log|[[:space:]]*$)' "$log" | head -n 2 | paste -sd " " -)
		fi
		echo "not run: $library: ${why:-the fetch failed}" | tee "$result"
		return
	fi
	if (cd "$folder" && QRJUMP_DEVIATIONS=$scratch/$folder.deviations QRJUMP_CASSETTES=$cassettes go test -count=1 -timeout "$limit" ./...); then
		echo "passed:  $library" >"$result"
	else
		echo "failed:  $library" >"$result"
	fi
}

# The pinned version.
go_version() { awk -v m="$2" '$1 == m { print $2; exit } $2 == m { print $3; exit }' "$1/go.mod"; }
npm_version() { sed -n "s|.*\"$2\": \"\(.*\)\".*|\1|p" "$1/package.json"; }

start miniprogram fetch_go "fastwego/miniprogram $(go_version miniprogram github.com/fastwego/miniprogram)"
start offiaccount fetch_go "fastwego/offiaccount $(go_version offiaccount github.com/fastwego/offiaccount)"
start silenceper fetch_go "silenceper/wechat $(go_version silenceper github.com/silenceper/wechat/v2)"
start powerwechat fetch_go "ArtisanCloud/PowerWeChat $(go_version powerwechat github.com/ArtisanCloud/PowerWeChat/v3)"
start wxopen fetch_go "fastwego/wxopen $(go_version wxopen github.com/fastwego/wxopen)"
start node fetch_npm "node-easywechat $(npm_version node node-easywechat)"
start cowechat fetch_npm "co-wechat-api $(npm_version cowechat co-wechat-api)"
start typescript fetch_npm "openapi-typescript $(npm_version typescript openapi-typescript)"
start openapi fetch_openapi "openapi-generator 7.14.0, spectral, redocly"
start rust fetch_cargo "wechat-mp-sdk $(sed -n 's/^wechat-mp-sdk = "=\(.*\)"$/\1/p' rust/Cargo.toml) for Rust"
start axios fetch_npm "clients for Node.js"
start golang fetch_go "clients for Go"
start distribution fetch_distribution "clients for PHP, Ruby, Perl and shells"
start jest fetch_npm "Jest $(npm_version jest jest)"
start pytest fetch_pip "$(head -n 1 pytest/requirements.txt)"
start zpl fetch_npm "zpl-renderer-js $(npm_version zpl zpl-renderer-js)"
start zxing fetch_mvn "ZXing $(sed -n 's|.*<version>\(.*[.].*\)</version>.*|\1|p' zxing/pom.xml) for Java"
start gs1 fetch_gs1 "bwip-js $(npm_version gs1 bwip-js), gs1-barcode-parser-mod, $(head -n 1 gs1/requirements.txt)"
start python fetch_pip "$(head -n 1 python/requirements.txt)"
start wechatpy fetch_pip "$(head -n 1 wechatpy/requirements.txt)"
start lake fetch_pip "$(head -n 1 lake/requirements.txt)"
start wxjava fetch_mvn "WxJava $(sed -n 's/.*<version>\(.*[0-9]\{4\}.*\)<.*/\1/p' wxjava/pom.xml), weixin-popular"
wait

for folder in "${folders[@]}"; do cat "$scratch/$folder.says"; done

echo
echo "compat: client libraries against qrjump"
failed=0
for folder in "${folders[@]}"; do
	# Without a result the library was interrupted.
	result=$(cat "$scratch/$folder.result" 2>/dev/null || echo "failed:  $folder: it left no result")
	printf '  %s\n' "$result"
	case $result in failed:*) failed=1 ;; esac
done
for report in compared deviations; do
	for folder in "${folders[@]}"; do
		result=$(cat "$scratch/$folder.result" 2>/dev/null)
		case $result in passed:*) "$report" "$folder" "${result#passed:  }" ;; esac
	done
done
exit $failed

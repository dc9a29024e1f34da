#!/usr/bin/env bash
# Runs other people's client libraries against this qrjump, each in a module of its own, so that one that cannot be
# had does not stop the others.
#
# A library that its registry does not hand out today is "not run", with the reason: it has neither passed nor
# failed. Only a test that failed, or a server that does not build, makes this script fail.
#
# QRJUMP_URL names a running server (started with --dev and harness/seed.yaml), QRJUMP_BINARY a built one.
#
# Most of them wait most of the time, so some run at once, each with servers of its own; what each says comes as a whole, in
# the order below. QRJUMP_AT_ONCE says how many; against one named server it is one after the other.
set -u
cd "$(dirname "$0")" || exit 2

scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT

if [ -z "${QRJUMP_URL:-}" ] && [ -z "${QRJUMP_BINARY:-}" ]; then
	# Once for all libraries, and apart from them: it is not their fault if this fails.
	if ! (cd .. && go build -o "$scratch/qrjump" ./cmd/qrjump); then
		echo "compat: the server does not build" >&2
		exit 1
	fi
	export QRJUMP_BINARY=$scratch/qrjump
fi

# bounded SECONDS COMMAND...: where there is no timeout command, the tools' own limits must do.
bounded() {
	local seconds=$1
	shift
	if command -v timeout >/dev/null; then
		timeout "$seconds" "$@"
	else
		"$@"
	fi
}

# fetch_go gets the packages that the tests need. `go mod download` would want every module that any of them ever
# mentioned, and call a library missing for the sake of one that it does not use.
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
	# Maven says what goes wrong on standard output.
	bounded 600 mvn -B -q -ntp dependency:build-classpath -Dmdep.outputFile=target/classpath >&2
}

fetch_cargo() {
	if ! command -v cargo >/dev/null || ! command -v cc >/dev/null; then
		echo "cargo or cc is not installed" >&2
		return 1
	fi
	bounded 600 cargo build -q --locked
}

# fetch_distribution is for what the system's own packages bring.
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

# The linters come from npm, the generator is a jar.
fetch_openapi() {
	if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
		echo "java or mvn is not installed" >&2
		return 1
	fi
	fetch_npm && bounded 600 mvn -B -q -ntp dependency:copy dependency:build-classpath -Dmdep.outputFile=target/classpath >&2
}

# What a fetch says when the fault lies in our own files (wrong sums, a manifest that does not fit its lock file, no
# such package in the module): that is a failure, and must not hide behind "not run".
ours='go\.sum|updates to go\.mod|errors parsing go\.mod|checksum mismatch|SECURITY ERROR|does not contain package|no required module provides|is not in std|\.go:[0-9]+:[0-9]+: (expected|illegal)|EUSAGE|EINTEGRITY|EJSONPARSE'

# compared FOLDER LIBRARY sums what its recorded calls came to on a fresh server; a difference has failed the test.
compared() {
	[ -s "$scratch/$1.compared" ] || return 0
	awk -v library="$2" '{ compared += $1; calls += $3 }
		END { printf "  %s: %d of %d recorded calls compared with a fresh server, no difference\n", library, compared, calls }' \
		"$scratch/$1.compared"
}

# deviations FOLDER LIBRARY prints what the library's calls would meet on the real platform, the surest first.
deviations() {
	[ -s "$scratch/$1.deviations" ] || return 0
	echo
	echo "$2 deviates from the platform; how sure it is that the platform minds (choice: nothing says so), how often, what to change:"
	awk -F '\t' '
		{ times[$1 FS $2 FS $5] += $3 }
		END {
			rank["seen"] = 1; rank["page"] = 2; rank["inferred"] = 3; rank["choice"] = 4
			for (key in times) { split(key, part, FS); printf "%d\t%s\t%s\t%d\t%s\n", rank[part[1]], part[1], part[2], times[key], part[3] }
		}' "$scratch/$1.deviations" | LC_ALL=C sort -t "$(printf '\t')" -k1,1n -k3,3 |
		awk -F '\t' '{ printf "  %-8s  %-26s  %5d  %s\n", $2, $3, $4, $5 }'
}

at_once=${QRJUMP_AT_ONCE:-3}
[ -z "${QRJUMP_URL:-}" ] || at_once=1
folders=()

# start FOLDER FETCH LIBRARY runs it beside the others, as soon as fewer than at_once do.
start() {
	while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
	folders+=("$1")
	run "$@" >"$scratch/$1.says" 2>&1 &
}

# run FOLDER FETCH LIBRARY leaves one line of a result in FOLDER.result.
run() {
	local folder=$1 fetch=$2 library=$3 result=$scratch/$1.result log=$scratch/$1.fetch cassettes=$scratch/$1.compared limit=30m status why
	[ "$folder" != gs1 ] || limit=2h # 100,000 texts, or as many as GS1_CASES says
	# Clients made from our own document call no platform: there is nothing to compare.
	# Nor do the snippets of the pages go through a recorder.
	case $folder in typescript | python | openapi | lake | wechatpy | wxjava | zpl | zxing | gs1 | axios | golang | distribution | rust | jest | pytest) cassettes= ;; esac
	echo "== $library"
	(cd "$folder" && "$fetch") 2>"$log"
	status=$?
	if [ $status -ne 0 ]; then
		if grep -Eq "$ours" "$log"; then
			cat "$log"
			echo "failed:  $library: its files here do not fit together" >"$result"
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

# The version is read where it is pinned.
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
	# No result: it was ended.
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

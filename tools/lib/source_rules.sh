# shellcheck shell=bash
# The rules about source text that no other linter knows: sizes, names, marks, layering, and the journey page.

FILE_LINES_MAX=500
FUNCTION_LINES_MAX=70

# Tracked and not yet tracked files of the tree, without what the build generates.
source_files() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r file; do
    [ ! -f "$file" ] || printf '%s\n' "$file"
done; }

own_code() { source_files 'Sources/*.swift' 'Sources/*.c' 'Sources/*.h' 'Tests/*.swift' 'Tests/*.py' 'bpf/*.c' 'bpf/*.h'; }
own_scripts() { source_files 'tools/*' '.ci/*' 'Tests/*.sh' | while read -r file; do
    case "$(head -c 64 "$file" | head -n 1 | tr -d '\0')" in '#!'*bash | '# shellcheck shell=bash') printf '%s\n' "$file" ;; esac
done; }

rule_format_swift() { source_files '*.swift' | tr '\n' '\0' | xargs -0 swift format lint --strict --parallel; }

rule_format_bpf() {
    local files
    mapfile -t files < <(source_files 'bpf/*.c' 'bpf/*.h')
    [ -f bpf/.clang-format ] || [ -f .clang-format ] || {
        echo "no .clang-format for bpf/"
        return 1
    }
    clang-format --dry-run -Werror "${files[@]}"
}

rule_shellcheck() {
    local files
    mapfile -t files < <(own_scripts)
    shellcheck -x -P SCRIPTDIR "${files[@]}"
}

rule_file_length() {
    is_empty "$({ own_code; own_scripts; } | while read -r file; do
        awk -v max="$FILE_LINES_MAX" -v file="$file" 'END { if (NR > max) printf "%s has %d lines, the limit is %d\n", file, NR, max }' "$file"
    done)"
}

# Formatted code closes a function with a brace at the indentation of its first line: that is enough to measure it.
rule_function_length() {
    is_empty "$({ own_code | grep -v '\.py$'; own_scripts; } | xargs -r awk -v max="$FUNCTION_LINES_MAX" '
        FNR == 1 { open = 0 }
        function indent(line) { match(line, /^[ \t]*/); return RLENGTH }
        {
            if (FILENAME ~ /\.swift$/) starts = ($0 ~ /^[ \t]*([a-z@(), ]* )?(func [^ ]|init[?(<]|deinit |subscript[(<])/) && $0 !~ /^[ \t]*(\/\/|self\.|super\.|return |try |let |var )/
            else if (FILENAME ~ /\.[ch]$/) starts = ($0 == "{")
            else starts = ($0 ~ /^[a-z_]+\(\) *\{$/)
        }
        !open && starts { open = FNR; depth = indent($0); name = $0; next }
        open && /^[ \t]*}/ && indent($0) == depth {
            if (FNR - open + 1 > max) printf "%s:%d: %d lines, the limit is %d:%s\n", FILENAME, open, FNR - open + 1, max, name
            open = 0
        }
        open && starts && indent($0) <= depth { open = FNR; depth = indent($0); name = $0 }')"
}

rule_file_names() {
    is_empty "$(own_code | grep -E '(Utils?|Helpers?|Manager|Common|Misc)\.[a-z]+$|/(utils?|helpers?|common|misc)\.[a-z]+$')"
}

# A target says what it is for: one Swift file of it opens with 3 to 8 lines of comment; in a C target every file opens
# with some.
rule_opening_comments() {
    local target file
    is_empty "$(for target in Sources/*/ Tests/Fuzzing/Targets/; do
        if [ -z "$(source_files "$target*.swift")" ]; then
            source_files "$target*.c" "$target*.h" | while read -r file; do
                grep -qm1 -E '^(/\*|//)' <(head -n 1 "$file") || printf '%s opens without a comment\n' "$file"
            done
        elif [ "$(source_files "$target*.swift" | xargs awk '
            FNR == 1 { if (lines >= 3 && lines <= 8) good++; lines = 0; opening = 1 }
            opening && /^\/\/( |$)/ { lines++; next }
            { opening = 0 }
            END { if (lines >= 3 && lines <= 8) good++; print good + 0 }')" -eq 0 ]; then
            printf '%s: no file opens with 3 to 8 lines on what the target is for\n' "$target"
        fi
    done)"
}

rule_top_level() {
    is_empty "$(git ls-files --cached --others --exclude-standard | sed -n 's|/.*||p' | sort -u |
        grep -vxE 'Sources|Tests|bpf|tools|docs|\.ci|\.github' | sed 's/$/: no top-level folder of that name (docs\/ARCHITECTURE.md)/')"
}

rule_unfinished_marks() {
    local marks='\b(TODO|FIXME|XXX|HACK)\b|not implemented|^(<<<<<<<|>>>>>>>) '
    is_empty "$(
        { own_code; own_scripts; } | grep -v '^tools/lib/source_rules.sh$' | xargs -r grep -nE "$marks"
        source_files 'Sources/*.swift' | xargs -r grep -nE '\bfatalError\(|\btry!|\bas!' | grep -v '// proven:'
        source_files 'Tests/*.swift' | xargs -r grep -nE 'XCTSkip|\.disabled\(|\.enabled\(if'
    )"
}

# Every import of a target must stand in its row of Package.swift; toolchain modules are free, Foundation is not.
rule_layering() {
    local table
    table=$(swift package dump-package 2>/dev/null | jq -r '.targets[]
        | "\(.name) \(.path // (if .type == "test" then "Tests/" else "Sources/" end + .name)) " +
          ([.dependencies[] | (.byName // .product // .target)[0]] | join(","))') || {
        echo "swift package dump-package failed"
        return 1
    }
    is_empty "$(while read -r target path dependencies; do
        source_files "$path/*.swift" | xargs -r grep -HnoE '^[ \t]*(@[a-zA-Z_]+(\([^)]*\))? +)*((public|package|internal|fileprivate|private) +)?import +((struct|class|enum|protocol|func|var|typealias) +)?[A-Za-z0-9_]+' |
            awk -v target="$target" -v allowed="$dependencies" '
                BEGIN { n = split(allowed ",Swift,Glibc,Testing,Synchronization", list, ","); for (i = 1; i <= n; i++) ok[list[i]] = 1
                        if (target ~ /^(AdminAPI|TerminalUI|meshctl)(Tests)?$|^(EndToEnd|Kernel)Tests$|^FuzzTargets$/) ok["FoundationEssentials"] = 1 }
                { module = $NF; where = $0; sub(/:[^:]*import.*/, "", where)
                  if (module == "import") next
                  if (!(module in ok)) printf "%s: target %s may not import %s\n", where, target, module }'
    done <<<"$table")"
}

# docs/life-of-a-connection.md names files and, on the same line, functions in them: `path` and `name()`.
rule_journey_names() {
    local page=docs/life-of-a-connection.md
    [ -f "$page" ] || {
        echo "$page is missing"
        return 1
    }
    is_empty "$(grep -n '`' "$page" | while IFS= read -r line; do
        local number=${line%%:*} paths=() functions=() token
        while read -r token; do
            case "$token" in
            *'()') functions+=("${token%'()'}") ;;
            */*.*) paths+=("$token") ;;
            esac
        done < <(grep -oE '`[^`]+`' <<<"$line" | tr -d '`')
        journey_line_holds "$page:$number" "${paths[*]}" "${functions[*]}"
    done)"
}

journey_line_holds() {
    local where=$1 path function found=() files=()
    read -ra found <<<"$2"
    for path in "${found[@]}"; do
        if [ -e "$path" ]; then files+=("$path"); elif [ -e "Sources/$path" ]; then files+=("Sources/$path"); else
            printf '%s: no file %s\n' "$where" "$path"
        fi
    done
    read -ra found <<<"$3"
    for function in "${found[@]}"; do
        if [ "${#files[@]}" -eq 0 ]; then
            printf '%s: %s() is named without its file\n' "$where" "$function"
        elif ! grep -qE "\b${function##*.}\b" "${files[@]}"; then
            printf '%s: no %s() in %s\n' "$where" "$function" "${files[*]}"
        fi
    done
}

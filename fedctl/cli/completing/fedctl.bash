# bash completion for fedctl. Written by scripts/generate out of the command line itself.
# It needs neither bash-completion nor a bash newer than 3.2, which macOS has.

_fedctl_follows() { # what may follow $path: its commands, and its flags with a = for each value
    case $path in
@ALIASES@
    esac
    case $path in
@PLACES@
    *) commands='' flags='' ;;
    esac
}

_fedctl_kind() { # what the flag or the position $1 takes
    case "$path $1" in
@KINDS@
    *) kind='' ;;
    esac
}

_fedctl_ask() {
    "$program" ${where[@]+"${where[@]}"} --timeout 2s -q "$@" --ids </dev/null 2>/dev/null
}

_fedctl_known() {
    local pool
    case $1 in
@ASKED@
    esac
}

_fedctl_items() {
    local pool
    for pool in $(_fedctl_ask @POOLS@ | head -n 5); do _fedctl_ask pool items "$pool" --limit 100 "$@"; done
}

_fedctl_words() { # the words up to the cursor; bash breaks them at = and : as well, and here they are whole again
    local rest=${COMP_LINE:0:COMP_POINT} word i blank
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blank=${rest%%[![:blank:]]*}
        rest=${rest#"$blank"}
        word=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && word=$rest
        rest=${rest#"$word"}
        if [[ -n $blank || $i -eq 0 ]]; then
            words+=("$word")
        else
            words[${#words[@]} - 1]+=$word
        fi
    done
}

_fedctl_plain() { # a word as the command will see it, as far as that can be told without running anything
    plain=$1
    plain=${plain//[\"\'\\]/}
    case $plain in '~/'*) plain=$HOME/${plain#??} ;; esac
}

_fedctl_keep() { # whom to ask
    local plain
    case $1 in
    @WHERE@)
        _fedctl_plain "$2"
        where+=("$1" "$plain")
        ;;
    esac
}

_fedctl_default() { # readline's own completion, where bash is new enough to be asked for it
    type compopt >/dev/null 2>&1 && compopt -o "$1" 2>/dev/null
    return 0
}

_fedctl() {
    local IFS=$' \t\n' path='' commands flags globals kind program plain flag='' more=0 position=0 rest=-1
    local i word cur head before='' found='' break_
    local -a where words
    where=()
    COMPREPLY=()
    _fedctl_words
    _fedctl_plain "${words[0]}"
    program=$plain
    _fedctl_follows
    globals=$flags flags=''
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word=${words[i]}
        if ((rest >= 0)); then
            rest=$((rest + 1))
            continue
        fi
        if ((more)); then
            _fedctl_keep "$flag" "$word"
            more=$((more - 1))
            continue
        fi
        case $word in
        --) rest=0 ;;
        --*=*) _fedctl_keep "${word%%=*}" "${word#*=}" ;;
        -?*)
            flag=$word
            case " $flags $globals " in
            *" $word== "*) more=2 ;;
            *" $word= "*) more=1 ;;
            esac
            ;;
        *)
            case " $commands " in
            *" $word "*)
                path="${path:+$path }$word"
                _fedctl_follows
                ;;
            *) position=$((position + 1)) ;;
            esac
            ;;
        esac
    done
    cur=${words[${#words[@]} - 1]}
    head=$cur
    if ((more)); then
        _fedctl_kind "$flag"
        case " $flags $globals " in *" $flag== "*) ((more == 1)) && kind='' ;; esac
    elif ((rest >= 0)); then
        kind=''
        ((rest == 0)) && _fedctl_kind '*'
        [[ $kind == command ]] || kind=file
    else
        case $cur in
        --*=*)
            _fedctl_kind "${cur%%=*}"
            before=${cur%%=*}=
            cur=${cur#*=}
            ;;
        -*)
            kind=''
            for word in $flags $globals; do found="$found${word%%=*}"$'\n'; done
            ;;
        *)
            if [[ -n $commands ]]; then
                kind=''
                for word in $commands; do found="$found$word"$'\n'; done
            else
                _fedctl_kind "$position"
                [[ -n $kind ]] || _fedctl_kind '*'
                [[ $kind == command ]] && kind=''
            fi
            ;;
        esac
    fi
    for word in $kind; do
        case $word in
        +*) found="$found${word#+}"$'\n' ;;
        @*) found="$found$(_fedctl_known "${word#@}")"$'\n' ;;
        list)
            before=$before${cur%"${cur##*,}"}
            cur=${cur##*,}
            _fedctl_default nospace
            ;;
        file) _fedctl_default default ;;
        dir) _fedctl_default dirnames ;;
        command) COMPREPLY=($(compgen -c -- "$cur")) ;;
        esac
    done
    # What is answered takes the place of what stands behind the last : or = that bash breaks words at.
    for break_ in : =; do
        case $COMP_WORDBREAKS in *"$break_"*) head=${head##*"$break_"} ;; esac
    done
    plain=${words[${#words[@]} - 1]}
    head=${plain%"$head"}
    while IFS= read -r word; do
        case $word in '' | *[!A-Za-z0-9._:@%+,/=-]*) continue ;; esac
        case $word in "$cur"*)
            word=$before$word
            COMPREPLY+=("${word#"$head"}")
            ;;
        esac
    done <<<"$found"
}

if type compopt >/dev/null 2>&1; then
    complete -F _fedctl fedctl
else
    complete -o default -F _fedctl fedctl
fi

# fish completion for fedctl. Written by scripts/generate out of the command line itself.

function __fedctl_path --argument-names path # the path itself, by its first name
    switch $path
@ALIASES@
        case '*'
            echo $path
    end
end

function __fedctl_commands --argument-names path # the words below it, each with its line
    switch $path
@COMMANDS@
    end
end

function __fedctl_flags --argument-names path # its flags with a = for each value, each with its line
    switch $path
@FLAGS@
    end
end

function __fedctl_kind --argument-names path what # what the flag or the position takes
    switch "$path $what"
@KINDS@
    end
end

function __fedctl_ask
    type -q $__fedctl_whom[1]
    and $__fedctl_whom --timeout 2s -q $argv --ids </dev/null 2>/dev/null
end

function __fedctl_items
    for pool in (__fedctl_ask @POOLS@)[1..5]
        __fedctl_ask pool items $pool --limit 100 $argv
    end
end

function __fedctl_known --argument-names what
    switch $what
@ASKED@
    end
end

function __fedctl_kept --argument-names flag value # the flag, if it says whom to ask
    switch $flag
        case @WHERES@
            printf '%s\n' $flag (string replace -r '^~/' "$HOME/" -- $value)
    end
end

function __fedctl_complete
    set -l words
    for word in (commandline -opc)
        set -l plain (string unescape -- $word)
        or set plain $word
        set -a words "$plain"
    end
    set -g __fedctl_whom (string replace -r '^~/' "$HOME/" -- $words[1])
    set -e words[1]
    set -l cur (commandline -ct)
    set -l path ''
    set -l flag ''
    set -l more 0
    set -l both 0
    set -l position 0
    set -l rest
    set -l ended 0
    set -l flags (__fedctl_flags '' | string replace -r '\t.*' '')
    set -l globals $flags
    set -l commands (__fedctl_commands '' | string replace -r '\t.*' '')
    for word in $words
        if test $ended = 1
            set -a rest $word
        else if test $more -gt 0
            set -a __fedctl_whom (__fedctl_kept $flag $word)
            set more (math $more - 1)
        else if test "$word" = --
            set ended 1
        else if string match -q -- '--*=*' $word
            set -a __fedctl_whom (__fedctl_kept (string split -m 1 = -- $word))
        else if string match -q -- '-?*' $word
            set flag $word
            if contains -- "$word==" $flags $globals
                set more 2
                set both 1
            else if contains -- "$word=" $flags $globals
                set more 1
                set both 0
            end
        else if contains -- $word $commands
            set path (__fedctl_path (string trim -- "$path $word"))
            set flags (__fedctl_flags $path | string replace -r '\t.*' '')
            set commands (__fedctl_commands $path | string replace -r '\t.*' '')
        else
            set position (math $position + 1)
        end
    end
    set -l kind
    set -l before ''
    if test $more -gt 0
        test $both = 1 -a $more = 1
        or set kind (__fedctl_kind $path $flag)
    else if test $ended = 1
        if test (count $rest) -gt 0
            complete -C (string join ' ' -- (string escape -- $rest) $cur)
            return
        end
        set kind (__fedctl_kind $path '*')
        test "$kind" = command
        or set kind file
    else if string match -q -- '--*=*' $cur
        set -l parts (string split -m 1 = -- $cur)
        set kind (__fedctl_kind $path $parts[1])
        set before $parts[1]=
        set cur $parts[2]
    else if string match -q -- '-*' $cur
        test -n "$path"
        and __fedctl_flags $path | string replace -r '=+\t' '\t'
        __fedctl_flags '' | string replace -r '=+\t' '\t'
        return
    else if test -n "$commands"
        __fedctl_commands $path
        return
    else
        set kind (__fedctl_kind $path $position)
        test -n "$kind"
        or set kind (__fedctl_kind $path '*')
        test "$kind" = command
        and return
    end
    for token in $kind
        switch $token
            case list
                set before $before(string replace -r '[^,]*$' '' -- $cur)
            case '+*'
                printf '%s\n' $before(string sub -s 2 -- $token)
            case '@*'
                printf '%s\n' $before(__fedctl_known (string sub -s 2 -- $token))
            case file
                printf '%s\n' $before(__fish_complete_path $cur)
            case dir
                printf '%s\n' $before(__fish_complete_directories $cur '')
            case command
                complete -C "$cur"
        end
    end
end

complete -c fedctl -e
complete -c fedctl -f -a '(__fedctl_complete)'

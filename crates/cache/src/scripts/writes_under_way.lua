-- Part: the writes of a key that are under way, as its lease tells: `w<token>` is one, until the lease
-- ends; `wcontested <token>:<until> …` are several, each until its own time (ms since 1970), so that a
-- writer that died holds the others up no longer than it would alone.
local function now_in_ms()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The entries of the list, without those that are over and without the one of `ended`.
local function writes_under_way(lease, left, now, ended)
    local list = string.match(lease, '^[wW]contested(.*)$')
    if not list then
        list = string.match(lease, '^[wW]') and ' ' .. string.sub(lease, 2) .. ':' .. string.format('%.0f', now + left) or ''
    end
    local writes = {}
    for token, till in string.gmatch(list, ' (%S+):(%d+)') do
        if tonumber(till) > now and token ~= ended then
            writes[#writes + 1] = { token, tonumber(till) }
        end
    end
    return writes
end

-- Writes the lease of writes none of which will be kept. A server without memory refuses a script whose
-- first write may grow: the caller has written, or removed, something before.
local function contest(key, kind, writes, now)
    local text, last = kind .. 'contested', now + 1
    for _, write in ipairs(writes) do
        text = text .. ' ' .. write[1] .. ':' .. string.format('%.0f', write[2])
        last = math.max(last, write[2])
    end
    redis.call('SET', key, text, 'PX', string.format('%.0f', last - now))
end

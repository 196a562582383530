-- Builds what scripts see as their globals. Runs once per Lua state, outside of the sandbox.
-- Arguments: the libraries that Rust provides, and Rust's part of the error handling.
local libraries, native = ...

local raw_pcall, raw_xpcall, raw_rawset, raw_setmetatable = pcall, xpcall, rawset, setmetatable
local raw_resume = coroutine.resume

local protected = raw_setmetatable({}, { __mode = "k" })

local function refuse_write()
    error("Attempt to modify a readonly table", 2)
end

-- A view of a table that cannot be written through.
local function protect(table, missing)
    if missing then
        raw_setmetatable(table, { __index = missing })
    end
    local view = raw_setmetatable({}, { __index = table, __newindex = refuse_write, __metatable = false })
    protected[view] = table
    return view
end

-- What was caught goes on when the script is out of time: otherwise it could catch that for ever.
local function settle(ok, err, ...)
    if ok then
        return ok, err, ...
    end
    if native.overdue() then
        native.raise_overdue()
    end
    return false, native.seen(err)
end

local globals = {}
for _, name in ipairs({
    "assert", "collectgarbage", "error", "gcinfo", "getmetatable", "ipairs", "rawequal", "select",
    "tonumber", "tostring", "type", "unpack", "_VERSION",
}) do
    globals[name] = _G[name]
end

local function is_text(value)
    return type(value) == "string" or type(value) == "number"
end

local function compile(code, name)
    -- Precompiled code is not checked by the interpreter and could break out of it.
    if string.byte(code) == 27 then
        return nil, "precompiled code is not allowed"
    end
    return loadstring(code, name)
end

-- Rust checks the arguments: only a native function has the script's line for its errors.
globals.loadstring = native.checked(false, function(code, name)
    code = tostring(code)
    return compile(code, name or code)
end)

-- The pieces that a function gives, until it gives nothing.
local function read(reader)
    local pieces = {}
    for piece in reader do
        if not is_text(piece) then
            error("user_script:" .. native.line() .. ": reader function must return a string", 0)
        end
        if piece == "" then
            break
        end
        pieces[#pieces + 1] = piece
    end
    return table.concat(pieces)
end

globals.load = native.checked(true, function(reader, name)
    local done, code = raw_pcall(read, reader)
    if not done then
        if native.overdue() then
            native.raise_overdue()
        end
        -- The server's handler of errors makes a table of this one too.
        if type(code) == "table" and code.err == nil then
            return nil, code
        end
        return nil, native.describe(code)
    end
    return compile(code, name or "=(load)")
end)

function globals.pcall(...)
    return settle(raw_pcall(...))
end

function globals.xpcall(f, handler)
    return settle(raw_xpcall(f, function(err)
        return handler(native.seen(err))
    end))
end

function globals.rawset(table, key, value)
    if protected[table] then
        error("Attempt to modify a readonly table", 0)
    end
    return raw_rawset(table, key, value)
end

function globals.setmetatable(table, metatable)
    if protected[table] then
        error("Attempt to modify a readonly table", 0)
    end
    return raw_setmetatable(table, metatable)
end

-- These look at a protected table itself, not at its empty view.
function globals.next(table, key)
    return next(protected[table] or table, key)
end

function globals.pairs(table)
    return pairs(protected[table] or table)
end

function globals.rawget(table, key)
    return rawget(protected[table] or table, key)
end

local function copy(source)
    local target = {}
    for name, value in pairs(source) do
        target[name] = value
    end
    return target
end

local coroutines = copy(coroutine)
function coroutines.resume(...)
    return settle(raw_resume(...))
end

local strings = copy(string)
strings.dump = nil
globals.string = protect(strings)
globals.table = protect(copy(table))
globals.math = protect(copy(math))
globals.coroutine = protect(coroutines)
globals.os = protect({ clock = os.clock })
for name, library in pairs(libraries) do
    globals[name] = protect(library)
end

-- Methods of strings come from the protected library.
local string_metatable = getmetatable("")
string_metatable.__index = globals.string
string_metatable.__metatable = false

local view = protect(globals, function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end)
globals._G = view

local function run(script)
    return raw_xpcall(script, native.describe)
end

return globals, view, run

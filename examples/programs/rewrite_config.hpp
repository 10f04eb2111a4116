// Updates lists of modules in config.json. Quantisers list the experts that they did not quantise
// one by one. After fusing, the list names the module that contains the experts. After unfusing, it
// names the experts again.
#ifndef SAFEFUSE_EXAMPLES_REWRITE_CONFIG_HPP
#define SAFEFUSE_EXAMPLES_REWRITE_CONFIG_HPP

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace rewrite_config {

/// A replacement for entries that name a module.
struct renewal {
    std::string from;             ///< the module that no longer exists
    bool of_experts = false;      ///< replaces entries of its experts, not its own entry
    std::vector<std::string> to;  ///< the modules that replace it
};

/// Whether a key's list contains names of modules.
inline bool lists_modules(std::string_view key) {
    return key == "ignore" || key == "exclude" || key == "exclude_modules" ||
           key == "modules_to_not_convert" || key == "ignored_layers" ||
           key == "modules_to_not_quantize" || key == "exclude_layers";
}

/// Whether a text may contain such lists.
inline bool has_lists(std::string_view json) {
    for (const std::string_view word : {"ignore", "exclude", "modules_to_not_"})
        if (json.find(word) != json.npos) return true;
    return false;
}

/// The position after the last quote of the JSON string that begins at `at`. npos if the string
/// does not end.
inline std::size_t end_of_string(std::string_view json, std::size_t at) {
    for (std::size_t i = at + 1; i < json.size(); ++i) {
        if (json[i] == '\\')
            ++i;
        else if (json[i] == '"')
            return i + 1;
    }
    return std::string_view::npos;
}

/// The replacement for an entry: an expert becomes its fused module, and a module that was unfused
/// becomes its experts. Null: the entry stays.
inline const renewal* renewal_of(const std::string& entry, const std::vector<renewal>& renewals) {
    for (const renewal& each : renewals) {
        if (!each.of_experts && entry == each.from) return &each;
        if (!each.of_experts || entry.size() <= each.from.size() + 1 ||
            !entry.starts_with(each.from) || entry[each.from.size()] != '.')
            continue;
        const std::size_t first = each.from.size() + 1, end = entry.find('.', first);
        const std::string number =
            entry.substr(first, end == std::string::npos ? end : end - first);
        if (!number.empty() && number.find_first_not_of("0123456789") == std::string::npos)
            return &each;
    }
    return nullptr;
}

/// The text of config.json with updated lists. Adds the number of replaced entries to `changed`. A
/// text that is not JSON does not change.
inline std::string renew_lists(std::string_view json, const std::vector<renewal>& renewals,
                               std::size_t& changed) {
    std::string out;
    std::size_t copied = 0;
    for (std::size_t i = 0; i < json.size();) {
        if (json[i] != '"') {
            ++i;
            continue;
        }
        const std::size_t end = end_of_string(json, i);
        if (end == std::string_view::npos) break;
        const std::string_view key = json.substr(i + 1, end - i - 2);
        i = end;
        std::size_t at = json.find_first_not_of(" \t\r\n", end);
        if (!lists_modules(key) || at == std::string_view::npos || json[at] != ':') continue;
        at = json.find_first_not_of(" \t\r\n", at + 1);
        if (at == std::string_view::npos || json[at] != '[') continue;
        // the entries, the text before the first one, and the text between two of them
        std::vector<std::string> entries;
        const std::size_t list = at + 1;
        std::string_view before, between;
        std::size_t p = json.find_first_not_of(" \t\r\n", list), last = list;
        bool is_list = p != std::string_view::npos && json[p] == '"';
        if (is_list) before = json.substr(list, p - list);
        while (is_list) {
            const std::size_t entry_end = end_of_string(json, p);
            if (entry_end == std::string_view::npos) break;
            entries.emplace_back(json.substr(p + 1, entry_end - p - 2));
            last = entry_end;
            p = json.find_first_not_of(" \t\r\n", entry_end);
            if (p == std::string_view::npos || json[p] != ',') break;
            const std::size_t next = json.find_first_not_of(" \t\r\n", p + 1);
            if (next == std::string_view::npos || json[next] != '"') is_list = false;
            if (is_list && between.empty()) between = json.substr(last, next - last);
            p = next;
        }
        if (!is_list || p == std::string_view::npos || json[p] != ']') continue;
        std::vector<std::string> renewed;
        std::size_t gone = 0;
        for (const std::string& entry : entries) {
            const renewal* const now = renewal_of(entry, renewals);
            if (now == nullptr) {
                renewed.push_back(entry);
                continue;
            }
            ++gone;
            for (const std::string& name : now->to)
                if (std::find(renewed.begin(), renewed.end(), name) == renewed.end())
                    renewed.push_back(name);
        }
        if (gone == 0) continue;
        changed += gone;
        out.append(json.substr(copied, list - copied)).append(before);
        for (std::size_t e = 0; e < renewed.size(); ++e) {
            if (e != 0 && between.empty())
                out.append(",").append(before.empty() ? std::string_view{" "} : before);
            else if (e != 0)
                out.append(between);
            out.append("\"").append(renewed[e]).append("\"");
        }
        copied = i = last;
    }
    return out.append(json.substr(copied));
}

}  // namespace rewrite_config

#endif

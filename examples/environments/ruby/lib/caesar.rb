# Shifts the letters of a text.
module Caesar
  def self.shift(text, by)
    text.tr("a-z", ("a".."z").to_a.rotate(by).join)
  end
end

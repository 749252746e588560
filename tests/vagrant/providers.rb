# Providers whose plugins are neither Vagrant's own nor Debian's, for `vagrant validate` alone: it refuses an option that
# a provider does not have. The options are those that the plugins document:
# https://parallels.github.io/vagrant-parallels/docs/configuration.html
# https://developer.hashicorp.com/vagrant/docs/providers/vmware/configuration
# https://www.rubydoc.info/gems/vagrant_utm/VagrantPlugins/Utm/Config
absent = Class.new(Vagrant.plugin("2", :provider)) do
  def state = Vagrant::MachineState.new(:not_created, "", "")
end

{ "parallels" => %i[memory cpus], "vmware_desktop" => %i[vmx], "utm" => %i[memory cpus] }.each do |provider, options|
  settings = Class.new(Vagrant.plugin("2", :config)) do
    attr_writer(*(options - [:vmx]))
    define_method(:vmx) { @vmx ||= {} } if options.include?(:vmx)
  end
  Class.new(Vagrant.plugin("2")) do
    name provider
    provider(provider) { absent }
    config(provider, :provider) { settings }
  end
end
